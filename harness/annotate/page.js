"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const FIELDS = ["pair", "rater", "verdict", "confidence", "comment", "seconds"];
const NAME = `rater-${data.annotation}`;
let rater = "";
let verdicts = new Map(); // pair -> verdict of this rater
let since = Date.now(); // when the pair appeared
let saving = false;

// Control and format characters of a foreign text are shown as escapes; what they would do is not done.
const visible = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (c) =>
  "\n\t\u200c\u200d".includes(c) ? c : `\\u{${c.codePointAt(0).toString(16)}}`);

const complain = (text) => {
  $("problem").textContent = text;
  $("problem").hidden = !text;
};

const remembered = (name) => {
  try { return JSON.parse(localStorage.getItem(name)); } catch { return null; }
};

const remember = (name, value) => {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
};

const place = () => `verdicts-${data.annotation}-${rater}`;
const draftPlace = () => `draft-${data.annotation}-${rater}`;
const current = () => data.pairs.findIndex((one) => !verdicts.has(one.pair));
const position = () => (current() < 0 ? data.pairs.length : current());
const chosen = () => Number(document.querySelector("input[name=confidence]:checked").value);

async function load() {
  if (data.served) {
    const reply = await fetch(`verdicts?rater=${encodeURIComponent(rater)}`);
    if (!reply.ok) throw new Error(await reply.text());
    verdicts = new Map((await reply.json()).map((one) => [one.pair, one]));
  } else {
    verdicts = new Map((remembered(place()) || []).map((one) => [one.pair, one]));
  }
}

async function save(one) {
  if (data.served) {
    const body = JSON.stringify({annotation: data.annotation, ...one});
    const reply = await fetch("verdicts", {method: "POST", headers: {"Content-Type": "application/json"}, body});
    if (!reply.ok) throw new Error(await reply.text());
  }
  const changed = new Map(verdicts);
  if (one.verdict === null) changed.delete(one.pair); else changed.set(one.pair, one);
  if (!data.served && !remember(place(), [...changed.values()])) {
    complain("This browser stores nothing: download the verdicts before you close the page.");
    window.onbeforeunload = () => true;
  }
  verdicts = changed;
}

function show(before) {
  const done = position(), pair = data.pairs[done];
  $("progress").textContent = `${done} of ${data.pairs.length}, rater ${visible(rater)}`;
  $("bar").max = data.pairs.length;
  $("bar").value = done;
  $("start").hidden = true;
  $("foot").hidden = false;
  $("work").hidden = !pair;
  $("end").hidden = Boolean(pair);
  $("undo").disabled = done === 0;
  $("download").hidden = data.served;
  $("end").textContent = data.served ? "Finished: all verdicts are saved. Thank you."
    : "Finished. Download the verdicts and send the file back. Thank you.";
  if (!pair) return;
  for (const id of ["instruction", "a", "b"]) $(id).textContent = visible(pair[id]) || "(empty)";
  $("names").hidden = !pair.names;
  $("names").textContent = `An answer names a model (${visible(pair.names || "")}): judge the text, not the name.`;
  const draft = before || remembered(draftPlace());
  const filled = draft && draft.pair === pair.pair ? draft : {comment: "", confidence: 2};
  $("comment").value = filled.comment;
  document.querySelector(`input[name=confidence][value="${filled.confidence}"]`).checked = true;
  since = Date.now();
  window.scrollTo(0, 0);
}

async function act(work) {
  if (saving) return;
  saving = true;
  try {
    complain("");
    show(await work());
  } catch (error) {
    complain(`Not saved: ${error.message}. Try again; nothing else is lost.`);
  } finally {
    saving = false;
  }
}

const decide = (verdict) => act(async () => {
  const seconds = Math.round((Date.now() - since) / 100) / 10;
  const pair = data.pairs[position()].pair;
  await save({pair, rater, verdict, confidence: chosen(), comment: $("comment").value, seconds});
});

const undo = () => act(async () => {
  if (position() === 0) return;
  const before = verdicts.get(data.pairs[position() - 1].pair);
  await save({...before, verdict: null});
  remember(draftPlace(), before);
  return before;
});

function download() {
  const lines = data.pairs.filter((one) => verdicts.has(one.pair)).map(({pair, item, instruction, a, b}) => {
    const given = verdicts.get(pair);
    const own = Object.fromEntries(FIELDS.map((name) => [name, given[name]]));
    return JSON.stringify({annotation: data.annotation, ...own, item, instruction, a, b}) + "\n";
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, {type: "application/jsonl"}));
  link.download = `${data.annotation}-${rater.replace(/[^\p{L}\p{N}]+/gu, "-")}.jsonl`;
  link.click();
  URL.revokeObjectURL(link.href);
}

const begin = (name) => act(async () => {
  rater = name;
  try {
    await load();
  } catch (error) {
    rater = "";
    throw error;
  }
  remember(NAME, rater);
});

const leave = () => {
  remember(NAME, null);
  location.reload();
};

const KEYS = {
  1: () => decide("a"), 2: () => decide("b"), 3: () => decide("both good"), 4: () => decide("both bad"),
  u: undo, d: () => data.served || download(), c: () => $("comment").focus(),
};
[7, 8, 9].forEach((key, k) => { KEYS[key] = () => document.getElementsByName("confidence")[k].click(); });

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("textarea, input:not([type=radio])");
  if (event.key === "Escape") event.target.blur();
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !rater) return;
  const key = event.key.toLowerCase();
  if (!(key in KEYS) || ($("work").hidden && !"ud".includes(key))) return;
  event.preventDefault();
  KEYS[key]();
});
document.querySelectorAll("[data-verdict]").forEach((button) =>
  button.addEventListener("click", () => decide(button.dataset.verdict)));
$("undo").addEventListener("click", undo);
$("download").addEventListener("click", download);
$("leave").addEventListener("click", leave);
$("start").addEventListener("submit", (event) => {
  event.preventDefault();
  $("rater").blur(); // a hidden field keeps the focus until the page is drawn again
  if ($("rater").value.trim()) begin($("rater").value.trim());
});
$("work").addEventListener("input", () => {
  const pair = data.pairs[position()];
  if (pair) remember(draftPlace(), {pair: pair.pair, confidence: chosen(), comment: $("comment").value});
});
window.addEventListener("storage", (event) => { // the same page in another tab
  if (rater && event.key === place()) begin(rater);
});

$("start").hidden = false;
if (remembered(NAME)) begin(remembered(NAME)); else $("rater").focus();
