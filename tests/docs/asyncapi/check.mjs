// Parses AsyncAPI documents as the specification's own parser does; prints what it says as JSON.
import { Parser, fromFile } from "@asyncapi/parser";

const parser = new Parser();
const { document, diagnostics } = await fromFile(parser, process.argv[2]).parse();
console.log(
  JSON.stringify({
    version: document?.version(),
    channels: document?.channels().all().map((channel) => channel.address()) ?? [],
    messages: document?.allMessages().all().map((message) => message.id()) ?? [],
    diagnostics: diagnostics.map(({ severity, code, message, path }) => ({
      severity,
      place: path.join("."),
      said: `${code}: ${message}`,
    })),
  }),
);
