"""Scenarios: text files that read like sequence diagrams, run on the parts of the simulation.

``script`` reads and writes the files; ``stage`` holds the parts and says how they begin; ``steps``
is the table of all sentences that a file may use; ``steady`` is the world without chance;
``transcript`` writes down what passed, with ``names`` for all that is random.
"""
