"""The way back: what the store holds of a run or a folder, brought home or compared with the ledger.

``find`` says which runs are meant, ``shelf`` asks the server for what they hold, ``fetch`` downloads beside its place,
``pull`` and ``verify`` are the commands' work.
"""
