"""`clickpath report`: one page that shows what a run learned, and what it did not."""
