"""Which known cause an error tells of, as a short code: it stands behind the error, and a page has its name.

The words of an error are made in many rooms, and those of older versions still stand in ledgers. So nothing is stored:
a cause is known by the words that are the same each time, where an error is shown. ``docs/errors/`` has the pages.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

_GAP = "…"


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that goes wrong.

    Attributes:
        code: Its name, which stays: what is gone is not given again.
        what: What happened, as the heading of its page.
        marks: Words by which an error of this cause is known, any of them; ``…`` stands for what differs.
    """

    code: str
    what: str
    marks: tuple[str, ...]


CAUSES = (
    # The server
    Cause("AD101", "It cannot be reached", (
        "cannot be reached", "cannot be resolved", "refuses the connection", "does not answer within",
        "did not answer within", "was lost in the middle",
    )),
    Cause("AD102", "The server does not know who asks", ("answered 401",)),
    Cause("AD103", "The server's allowed hosts lack this name", ("answered …: Invalid Host header",)),
    Cause("AD104", "The server, or the gateway before it, forbids it", ("answered 403",)),
    Cause("AD105", "Credentials are refused", (" refuses: ",)),
    Cause("AD106", "The certificate is not trusted", (
        "the certificate of …is not trusted", "its certificate is not trusted",
    )),
    Cause("AD107", "TLS does not come about", (
        "no TLS connection to", "TLS cannot be agreed on", "speaks TLS, and was asked without", "does not speak TLS",
    )),
    Cause("AD108", "The certificate's settings cannot be used", (
        " cannot be asked: ", "stands no certificate in PEM",
    )),
    Cause("AD109", "The address redirects", (" redirects to ",)),
    Cause("AD110", "Something else than an MLflow server answers", (
        "answers with a web page, not as an MLflow server", "answered, but not as an MLflow server",
    )),
    Cause("AD111", "The client calls what the server does not know yet", (" is MLflow …and does not know ",)),
    Cause("AD112", "The address lacks its path", ("answered 404 to ", "is not where the MLflow server of this host")),
    Cause("AD113", "The server serves no artifacts", (" serves no artifacts ",)),
    Cause("AD114", "The server allows no such artifact location", ("does not allow the artifact location",)),
    Cause("AD115", "A gateway takes no body of that size", ("answered 413", " refuses a body of ")),
    Cause("AD116", "The server is busy, or away behind its gateway", (
        "answered 408", "answered 425", "answered 429", "answered 502", "answered 503", "answered 504",
    )),
    Cause("AD117", "A proxy asks who we are", ("answered 407", "is behind a proxy that asks who we are")),
    Cause("AD118", "The server has trouble of its own", ("answered 5",)),
    Cause("AD119", "The server refuses it", ("answered 4",)),
    Cause("AD120", "An upload stood still", (" took no byte for ",)),
    Cause("AD121", "A Python package is missing", (
        " needs the Python package ", "store needs all of MLflow", " is not installed: what goes there waits",
        " without MLflow's client",
    )),
    Cause("AD122", "The server would have artifacts written into the state folder", (
        "the server names …artifactd's own state folder",
    )),
    # Stores
    Cause("AD201", "The store does not know the key", (" does not know the key",)),
    Cause("AD202", "The secret does not fit the key", (" says that the secret does not fit the key",)),
    Cause("AD203", "The credentials have expired", (" says that the credentials have expired",)),
    Cause("AD204", "The store does not permit it", (" does not permit it", "no permission to write there")),
    Cause("AD205", "There is no such bucket or container", (
        " has no such bucket or container", "the bucket or container does not exist",
    )),
    Cause("AD206", "The store does not hold the object", (" does not hold the object",)),
    Cause("AD207", "The bucket is elsewhere", (" says that the bucket is elsewhere",)),
    Cause("AD208", "This machine's clock is wrong", (
        " says that this machine's clock is wrong", "tokens and certificates are refused for it",
    )),
    Cause("AD209", "The store is full", (
        " is full", "no space left in the store", " has …left in ",
    )),
    Cause("AD210", "The store is overloaded", (" is overloaded",)),
    Cause("AD211", "The store has trouble of its own", (" has trouble of its own",)),
    Cause("AD212", "The store takes no object of that size", (" takes no object of that size",)),
    Cause("AD213", "The store cannot hold that name", (
        " cannot hold an object of that name", "the path is too long for the store", " cannot hold this name in ",
        " is too long for the store", "MLflow refuses it: ", " cannot hold …: it leaves its run",
    )),
    Cause("AD214", "Other bytes arrived than were sent", (" got other bytes than were sent",)),
    Cause("AD215", "The store has forgotten the upload", (" knows nothing of the upload any more",)),
    Cause("AD216", "Something else than a store answers", (" does not answer as a store does",)),
    Cause("AD217", "There are no credentials for the store", (
        "no credentials that can be used", " wants a login (AWS SSO)", " stands in neither file of ~/.aws",
        "GOOGLE_APPLICATION_CREDENTIALS names ",
    )),
    Cause("AD218", "The store's settings cannot be used", (
        "its settings cannot be used", " is not what Google gives", " holds neither a key nor a signature",
        " is no INI file",
    )),
    Cause("AD219", "The store refuses it", (" refuses it",)),
    Cause("AD220", "What was sent is not there", (
        "the upload was accepted, but the store …afterwards", " bytes of …and holds ", "it is not in the listing",
        "it has …bytes there, not ",
    )),
    Cause("AD221", "The store holds another content", (
        "but the store holds another content of that size", "what comes back is not what was written",
    )),
    Cause("AD222", "A download was cut short", ("it came with …bytes, and the store lists it with",)),
    Cause("AD223", "A file and a folder want one name", (
        " holds a file where the folder ", " holds a folder where the file ", "the store holds what stood here before",
    )),
    Cause("AD224", "What was stored is gone or changed", (
        "missing in the store", "the store holds …bytes instead of ", "names it, and the store does not list it",
        "the store holds another content of the same size", "the store holds another content than was stored",
    )),
    # SFTP
    Cause("AD251", "The SSH server is not known, or is another one", (
        " is not known: it shows the host key", " shows the host key …revokes", " has another host key than before",
    )),
    Cause("AD252", "The SSH server does not let us in", (
        "there is no key to show to ", " refuses the key ", " refuses the agent's key ", " refuses the URL's password",
    )),
    Cause("AD253", "The SSH server ends the greeting", (
        " took the connection, but did not let us in", " have no common way to encrypt", " without a greeting",
        " ended the connection before it let us in",
    )),
    Cause("AD254", "The server offers no SFTP", (" offers no SFTP",)),
    Cause("AD255", "OpenSSH's configuration cannot be used", (
        ", which is not supported", " cannot be used for ", " is no number: ",
    )),
    Cause("AD256", "The address is none of an SFTP server", (
        " is no URL of an SFTP server", " cannot be taken apart as a URL", "the URL names no user",
    )),
    Cause("AD257", "The SFTP server refuses a file", (
        " does not let ", " fails to ", " is on a read-only filesystem", " has no …(any more)",
    )),
    # Files
    Cause("AD301", "artifactd may not read it", (
        " may not read it", " may not read what is in ", "it cannot be read: Permission denied", " cannot reach it: ",
    )),
    Cause("AD302", "The file cannot be read", ("it cannot be read: ",)),
    Cause("AD303", "Two files have one destination", (
        "its name in the run, …is taken by ", "its version's name …is taken by ",
        "its artifact path …holds what was sent", "its artifact path …is taken by ",
    )),
    Cause("AD304", "Another host's file stands there", ("another host's file stands there",)),
    Cause("AD305", "A delivery process died", ("the delivery process ",)),
    # Runs
    Cause("AD401", "The run is deleted in MLflow", ("run …is deleted on the server",)),
    Cause("AD402", "The experiment is deleted in MLflow", ("experiment …is deleted on the server",)),
    Cause("AD403", "The run does not exist", ("run …does not exist on the server",)),
    Cause("AD404", "The hosts cannot elect their run", (
        "which shall say which run the hosts have elected", "needs an experiment of its own to elect",
    )),
    Cause("AD405", "A run folder's artifactd.toml is wrong", ("the run folder's artifactd.toml ",)),
    Cause("AD406", "The run's manifest cannot be made", ("its manifest cannot be made",)),
    Cause("AD407", "The run of this folder has ended", ("the run of …has ended: it holds ",)),
    # What files say
    Cause("AD501", "Not all that a file says could be told", ("not all of its …could be told",)),
    Cause("AD502", "A model's folder is not whole", ("its folder is no whole model",)),
    Cause("AD503", "A model is stored and not registered", ("it is stored, and not registered",)),
    Cause("AD504", "The server keeps no logged models", ("the server keeps no logged models",)),
    # The way back
    Cause("AD601", "No run is known for it", ("no run is known for ", "the ledger knows no run yet")),
    Cause("AD602", "Several runs have that name", (" runs are named ",)),
    Cause("AD603", "It was delivered to another server", ("it was delivered to …, and the configuration names ",)),
    Cause("AD604", "The run has no manifest", (", and it has no manifest",)),
    Cause("AD605", "Something else stands where it was to come", (
        "another content stands at ", "a folder stands at ", " is the folder of another run: ",
    )),
    # This host
    Cause("AD701", "The state folder is in use", ("the state folder …is in use by ",)),
    Cause("AD702", "There is no ledger", ("no ledger at ",)),
    Cause("AD703", "The ledger is from a newer artifactd", (
        " was written by a newer artifactd", "a newer artifactd wrote it",
    )),
    Cause("AD704", "The ledger or its folder cannot be used", (
        "the ledger …cannot be used", "the ledger …cannot be made", "the state folder …cannot be used",
        " may not make it in ", " may not work in it",
    )),
    Cause("AD705", "artifactd was upgraded under its service", ("the installed artifactd is ",)),
    Cause("AD706", "The address for metrics cannot be had", ("metrics.listen = …cannot be had",)),
    Cause("AD707", "No watched folder holds it", ("no watched folder holds ", "no folder is watched yet")),
    Cause("AD708", "A watched folder is away", (
        "the folder is not there; it is looked for", "the watched folder is not there", "what was mounted here is not",
        "it has become a symbolic link to ", "it cannot be opened: ",
    )),
    Cause("AD709", "A watched folder can only be scanned", (
        "scan only: ", 'mode = "events", although ', "what finds none left is scanned now and then",
    )),
    Cause("AD710", "Another artifactd watches the folder", (
        "another artifactd watches it", "is watched by another artifactd",
    )),
    Cause("AD711", "There is little space for the ledger", ("without them the service ends", " are free, less than ")),
    Cause("AD712", "The unit was changed by hand", (" was not written by this command",)),
    Cause("AD713", "The embedded store was moved", ("and its runs keep their artifacts below that",)),
    Cause("AD801", "The configuration is wrong", (
        "The configuration has ", "the new configuration is wrong", "state_dir cannot change",
    )),
    # Last: what was given up has a cause of its own before these words, mostly.
    Cause("AD306", "A file was given up", ("(given up after ",)),
)  # fmt: skip
"""All of them. Of several that fit, the one counts whose words come first: what others said stands behind ours."""


_MARKS = tuple((*mark.split(_GAP, 1), cause.code) for cause in CAUSES for mark in cause.marks)


@functools.lru_cache(maxsize=128)
def code_of(error: str) -> str | None:
    """The code of an error's cause; None for one that is not known."""
    code, place = None, len(error)
    for first, *rest, of in _MARKS:
        begin = error.find(first)
        if 0 <= begin < place and (not rest or _follows(error, rest[0], begin + len(first))):
            code, place = of, begin
    return code


def coded(error: str) -> str:
    """An error with its code behind it, as people are shown it; as it is where its cause is not known."""
    code = code_of(error)
    return error if code is None or error.endswith(f"[{code}]") else f"{error} [{code}]"


def _follows(error: str, mark: str, at: int) -> bool:
    """Whether the rest of a mark's words stands behind a place, in that order."""
    for part in mark.split(_GAP):
        at = error.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
