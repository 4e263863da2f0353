"""A shop that does not exist, with shoppers whose reactions are known.

The demo and the load tests need traffic; the trainer needs a corpus with labels; the evaluation of
policies needs a world in which the true effect of every intervention is written down. This is all
three: seeded, endless, without a clock and without I/O.

    catalogue.py    what the shop sells
    draws.py        a random sequence for each shopper
    personas.py     the kinds of shopper, in numbers, with the true effect of each intervention
    shopper.py      how one shopper behaves
    traffic.py      all of them, in order of time
    faults.py       what goes wrong on the way: copies, disorder, broken records
"""

from clickpath.simulation.personas import PERSONAS, Persona, true_effect
from clickpath.simulation.shopper import Shopper
from clickpath.simulation.traffic import START_MS, simulate

__all__ = ["PERSONAS", "START_MS", "Persona", "Shopper", "simulate", "true_effect"]
