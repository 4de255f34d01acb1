"""Being told: what needs a person goes to a command or a webhook, grouped, and once more when it is over.

Level-triggered, as all else: no event makes a message. ``troubles`` says what is wrong now, ``pace`` what is to be told
of it, given what was told and the time; both are pure. ``message`` is what is sent, ``send`` how, ``keeping`` what
outlives the process, and ``bell`` is what the service holds.
"""
