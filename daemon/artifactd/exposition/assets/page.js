"use strict";
// Whatever comes from the service goes into the page as text (textContent) and never as markup.

const at = (id) => document.getElementById(id);
const count = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1023.95 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return (unit ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[unit];
}

function moment(seconds) {
  const date = new Date(seconds * 1000);
  return (date.toDateString() === new Date().toDateString() ? clock : day).format(date);
}

function span(seconds) {
  if (seconds < 60) return Math.max(0, Math.round(seconds)) + " s";
  if (seconds < 3600) return Math.round(seconds / 60) + " min";
  return seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " d";
}

function say(id, text) {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text;
}

// A cell is {text, as, of, title, link, press, cure, part}; it is made anew only when it says something else, so that
// the focus and what is selected stay where they are.
function cell(td, wanted) {
  const key = JSON.stringify(wanted);
  if (td.kept === key) return;
  td.kept = key;
  td.className = wanted.as || "";
  let inner;
  if (wanted.part !== undefined) {
    inner = document.createElement("progress");
    inner.max = 1;
    inner.value = wanted.part;
    inner.setAttribute("aria-label", wanted.text);
  } else if (wanted.press) {
    inner = document.createElement("button");
    inner.type = "button";
    inner.className = "plain";
    inner.dataset.row = wanted.press;
    inner.dataset.name = wanted.text;
    inner.textContent = wanted.text;
  } else {
    inner = document.createElement("span");
    inner.textContent = wanted.text;
    if (wanted.of) { inner.className = "state"; inner.dataset.of = wanted.of; }
  }
  const parts = [inner];
  if (wanted.link && /^https?:\/\//.test(wanted.link)) {
    const link = document.createElement("a");
    link.href = wanted.link;
    link.rel = "noopener noreferrer";
    link.target = "_blank";
    link.textContent = "in MLflow";
    link.setAttribute("aria-label", "Run " + wanted.text + " in MLflow, in a new tab");
    parts.push(" ", link);
  }
  if (wanted.cure) {
    const cure = document.createElement("span");
    cure.className = "cure";
    cure.textContent = wanted.cure;
    parts.push(cure);
  }
  td.replaceChildren(...parts);
}

function fill(table, rows, nothing) {
  const body = at(table).tBodies[0];
  const columns = at(table).tHead.rows[0].cells.length;
  const named = Number(at(table).dataset.named); // the column that says which row it is
  if (!rows.length) {
    const row = document.createElement("tr");
    const td = document.createElement("td");
    td.colSpan = columns;
    td.textContent = nothing;
    row.append(td);
    body.replaceChildren(row);
    return;
  }
  if (body.rows.length && body.rows[0].cells.length !== columns) body.replaceChildren();
  while (body.rows.length > rows.length) body.deleteRow(-1);
  while (body.rows.length < rows.length) {
    const row = body.insertRow();
    for (let n = 0; n < columns; n += 1) {
      const made = document.createElement(n === named ? "th" : "td");
      if (n === named) made.scope = "row";
      row.append(made);
    }
  }
  rows.forEach((cells, n) => cells.forEach((wanted, m) => cell(body.rows[n].cells[m], wanted)));
}

// -- how all stands --------------------------------------------------------------------------------------------------

let announced = 0;
let last = null;

function held(block) {
  const item = document.createElement("li");
  const what = document.createElement("strong");
  what.textContent = block.what;
  const tries = ", after " + block.tries + (block.tries === 1 ? " try." : " tries.");
  const again = block.next * 1000 > Date.now() ? "Next try at " + moment(block.next) + tries : "It is tried again now.";
  const next = block.next === null ? "It is not tried again by itself." : again;
  item.append(what, "\n" + block.error + "\n" + (block.cure ? block.cure + "\n" : "") + next);
  return item;
}

function more(number, of) {
  if (!number) return [];
  const item = document.createElement("li");
  item.textContent = "… and " + count.format(number) + " more: artifactd status has all " + of;
  return [item];
}

function overview(now) {
  last = now;
  for (const [state, number] of Object.entries(now.files)) say("count-" + state, count.format(number));
  const { waiting, uploading } = now.files;
  const lag = now.oldest === null ? "" : ", the oldest for " + span(Date.now() / 1000 - now.oldest);
  const left = size(now.bytes.waiting) + (waiting && uploading ? " with what is under way" : "") + lag;
  say("more-waiting", waiting ? left : "");
  const rate = now.rate.files ? count.format(now.rate.files) + " files/s, " + size(now.rate.bytes) + "/s" : "";
  say("more-uploading", [uploading && !waiting ? left : "", rate].filter(Boolean).join("; "));
  say("more-stored", size(now.bytes.stored));
  say("more-failed", now.files.failed ? "see below why" : "");
  say("program", "artifactd " + now.program + ".");
  say("host", "artifactd on " + now.host);
  document.title = (now.files.failed ? "(" + count.format(now.files.failed) + " failed) " : "") + "artifactd on " + now.host;
  const live = at("live");
  live.dataset.state = now.stalled ? "lost" : "live";
  say("live", now.stalled ? "The service's loop stands still" : "The service is working");
  at("held").hidden = !now.held.length;
  const list = at("held-list");
  const key = JSON.stringify(now.held.map((block) => [block, block.next * 1000 > Date.now()]));
  if (list.kept !== key) {
    list.kept = key;
    list.replaceChildren(...now.held.map(held), ...more(now.more_held, "that is held back"));
  }
  fill("watches", now.watches.map((watch) => [
    { text: watch.path, as: "path" },
    { text: watch.mode || "–" },
    { text: watch.healthy ? "ok" : "degraded", of: watch.healthy ? "ok" : "degraded", as: "words", cure: [watch.detail, watch.cure].filter(Boolean).join("\n") },
  ]), "No folder is watched.");
  say("watches-more", now.more_watches ? "… and " + count.format(now.more_watches) + " more: artifactd status has all." : "");
  if (Date.now() - announced > 10000) {
    announced = Date.now();
    say("summary", count.format(now.files.waiting) + " waiting, " + count.format(now.files.uploading) + " uploading, "
      + count.format(now.files.stored) + " stored, " + count.format(now.files.failed) + " failed");
  }
}

// -- pages of rows ---------------------------------------------------------------------------------------------------

const FULL = 50;
const MOST_STEPS = 25;

class Pages {
  constructor(name, draw, more) {
    this.name = name;
    this.draw = draw;
    this.more = more;
    this.behind = [];
    this.after = "";
    this.next = null;
    this.turn = 0;
    let typing = 0;
    at(name + "-filter").addEventListener("submit", (event) => event.preventDefault());
    at(name + "-show").addEventListener("change", () => this.anew());
    at(name + "-text").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => this.anew(), 250); });
    at(name + "-back").addEventListener("click", () => {
      if (this.behind.length) { this.after = this.behind.pop(); this.ask(); }
    });
    at(name + "-on").addEventListener("click", () => {
      if (this.next) { this.behind.push(this.after); this.after = this.next; this.ask(); }
    });
  }

  anew() { this.behind = []; this.after = ""; this.ask(); }

  ask() { this.load().catch((error) => lost(String(error.message || error))); }

  // The service looks at so many rows for a request, and says where to go on: a filter that leaves little takes several.
  async load() {
    const turn = this.turn += 1;
    const rows = [];
    let after = this.after;
    at(this.name).setAttribute("aria-busy", "true");
    for (let step = 0; step < MOST_STEPS; step += 1) {
      const query = new URLSearchParams({ show: at(this.name + "-show").value, text: at(this.name + "-text").value, after, ...this.more() });
      const answer = await fetch("/" + this.name + "?" + query);
      if (!answer.ok) throw new Error(await answer.text());
      const page = await answer.json();
      if (turn !== this.turn) return;
      rows.push(...page[this.name]);
      after = page.after;
      this.version = page.version;
      if (rows.length >= FULL || !after) break;
    }
    this.next = after;
    this.draw(rows, after && !rows.length);
    at(this.name).removeAttribute("aria-busy");
    at(this.name + "-back").setAttribute("aria-disabled", String(!this.behind.length));
    at(this.name + "-on").setAttribute("aria-disabled", String(!after));
    say(this.name + "-place", "Page " + (this.behind.length + 1) + (after ? "" : ", the last one"));
  }
}

function why(file) {
  if (file.state === "stored") return "as " + file.artifact;
  return file.why + (file.tries ? " (" + file.tries + (file.tries === 1 ? " try" : " tries") + " so far)" : "");
}

function when(file) {
  if (file.state === "stored") return moment(file.stored_at);
  if (!file.next) return "";
  return file.next * 1000 > Date.now() ? "next at " + moment(file.next) : "now";
}

let only = null;

const UNFINISHED = "None among the many that were looked at so far. The next page looks further.";

const files = new Pages("files", (rows, unfinished) => fill("files", rows.map((file) => [
  { text: file.retrying ? "tried again" : file.state, of: file.retrying ? "retrying" : file.state },
  { text: file.path, as: "path" },
  { text: size(file.state === "stored" ? file.stored_size : file.size), as: "number" },
  { text: file.run ? file.experiment + " / " + file.run : "–", link: file.link, as: "run" },
  { text: why(file), cure: file.cure, as: "words" },
  { text: when(file) },
]), unfinished ? UNFINISHED : "There is no such file."), () => (only === null ? {} : { run: only }));

function life(run) {
  if (!run.since) return run.why;
  if (run.status !== "RUNNING") return "since " + moment(run.since) + (run.why ? ": " + run.why : "");
  return run.why ? "last sign of life " + moment(run.since) + ": " + run.why : "";
}

const runs = new Pages("runs", (rows) => fill("runs", rows.map((run) => {
  const whole = run.stored + run.waiting + run.failed;
  return [
    { text: run.experiment + " / " + run.run, press: String(run.row), link: run.link, as: "run" },
    { text: run.status || "not made yet", of: run.status || "none" },
    { text: count.format(run.stored), as: "number" },
    { text: size(run.stored_bytes), as: "number" },
    { text: count.format(run.waiting), as: "number" },
    { text: count.format(run.failed), as: "number", of: run.failed ? "failed" : "" },
    { text: run.stored + " of " + whole + " files stored", part: whole ? run.stored / whole : 1 },
    { text: life(run), as: "words" },
  ];
}), "There is no such run."), () => ({}));

at("runs").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-row]");
  if (!button) return;
  only = button.dataset.row;
  say("files-run-name", button.dataset.name);
  at("files-run").hidden = false;
  at("files-show").value = "all";
  files.anew();
  at("files-heading").focus();
});

at("files-run-clear").addEventListener("click", () => {
  only = null;
  at("files-run").hidden = true;
  at("files-show").focus();
  files.anew();
});

// -- as it goes on ---------------------------------------------------------------------------------------------------

let events = null;
let seen = null;
let shown = null;
let busy = false;
let doubt = 0; // the service ends each line now and then, and the browser comes again: that is no news

// At most a twentieth of the time goes into tables, however long they take.
async function refresh() {
  if (busy || seen === shown || document.hidden) return;
  busy = true;
  const version = seen;
  const begun = performance.now();
  let pause = 0;
  try {
    await Promise.all([files.load(), runs.load()]);
    shown = runs.version === version ? version : null; // their counts may be older: then it is asked again
  } catch (error) {
    lost(String(error.message || error));
    pause = 4000;
  }
  pause = Math.max(1000, pause, 20 * (performance.now() - begun));
  setTimeout(() => { busy = false; refresh(); }, pause);
}

function lost(reason) {
  at("live").dataset.state = "lost";
  say("live", "The service does not answer" + (reason ? ": " + reason.slice(0, 200) : "") + "; it is asked again");
}

function listen() {
  if (events || document.hidden) return;
  events = new EventSource("/events");
  events.onopen = () => { shown = null; };
  events.onmessage = (event) => {
    clearTimeout(doubt);
    doubt = 0;
    const now = JSON.parse(event.data);
    overview(now);
    seen = now.version;
    refresh();
  };
  events.onerror = () => {
    doubt = doubt || setTimeout(() => lost(""), 5000);
    if (events && events.readyState === EventSource.CLOSED) { events = null; setTimeout(listen, 5000); }
  };
}

// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) { listen(); return; }
  if (events) { events.close(); events = null; }
});

// How long something waits goes on though nothing happens.
setInterval(() => { if (last && events && !document.hidden && at("live").dataset.state !== "lost") overview(last); }, 5000);

listen();
