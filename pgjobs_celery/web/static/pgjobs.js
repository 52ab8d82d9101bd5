// Live regions, times, selection, confirmations, keys, theme. The pages work without any of it.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const storage = {
  get: (name) => { try { return localStorage.getItem(`pgjobs-${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`pgjobs-${name}`, value); } catch { /* private */ } },
};

// --- Live regions: fetched again with the address of the page, and put in place of the old ones.
// data-live="jobs queues" names what a region shows; one without names is fetched with any change.

const POLL = 5000, EVEN_IF_QUIET = 30000, STREAM_AGAIN = 60000, PATIENCE = 15000;
const live = { stream: null, pace: 1000, wanted: null, busy: false, paused: false, at: 0, timer: 0, lost: "" };
const loadedAt = Date.now();
const skew = document.body.dataset.now ? Date.parse(document.body.dataset.now) - loadedAt : 0;

function isInUse(region) {
  const focus = document.activeElement;
  const selection = document.getSelection();
  return (region.contains(focus) && focus.matches("input:not([type=checkbox]), select, textarea"))
    || region.querySelector("input[type=checkbox]:checked:not([data-stays])") !== null
    || (selection && !selection.isCollapsed && region.contains(selection.anchorNode));
}

const isStill = () => document.hidden || live.paused || live.lost || document.querySelector("dialog[open]");

function say(text) {
  const state = byId("live-state");
  if (!state || state.textContent === text) return;
  state.textContent = text;
  state.hidden = !text;
}

// Asked for by an event, by time or by a key; topics null stands for all.
function want(topics) {
  live.wanted = topics === null || live.wanted === "all" ? "all" : new Set([...(live.wanted || []), ...topics]);
  clearTimeout(live.timer);
  live.timer = setTimeout(refresh, Math.max(0, live.at + live.pace - Date.now()));
}

function isWanted(region, wanted) {
  const names = region.dataset.live.split(" ").filter(Boolean);
  return wanted === "all" || !names.length || names.some((name) => wanted.has(name));
}

async function refresh() {
  if (live.busy || isStill() || !live.wanted) return;
  const regions = all("[data-live]").filter((region) => isWanted(region, live.wanted) && !isInUse(region));
  if (!regions.length) {
    if (!all("[data-live]").some((region) => isWanted(region, live.wanted))) live.wanted = null;
    return;
  }
  live.wanted = null;
  live.busy = true;
  live.at = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { "X-Live": "1" }, signal: AbortSignal.timeout(PATIENCE) });
    live.pace = 1000 * (Number(answer.headers.get("X-Pace")) || 1);
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = regions.filter((region) => put(region, fresh.getElementById(region.id)));
    tick();
    say(found.length ? live.lost : "This page is not the same any more: load it again.");
  } catch {
    say(live.lost || "The server does not answer; this page is as it was, and asks again.");
  } finally {
    live.busy = false;
    live.at = Date.now();
  }
}

// Put a fresh region in place; what was open or had the focus stays so. False where there is none.
function put(region, fresh) {
  if (!fresh) return false;
  if (isInUse(region) || document.querySelector("dialog[open]")) return true;
  if (region.last === fresh.innerHTML) return true;
  region.last = fresh.innerHTML;
  const sign = (element) => element.id || element.getAttribute("href") || element.textContent.trim();
  const focusable = "a, button, summary, input";
  const focus = region.contains(document.activeElement) ? document.activeElement : null;
  const place = focus ? all(focusable, region).filter((each) => sign(each) === sign(focus)).indexOf(focus) : -1;
  const open = new Set(all("details[open] > summary", region).map(sign));
  region.replaceChildren(...fresh.childNodes);
  for (const summary of all("details > summary", region)) {
    if (open.has(sign(summary))) summary.parentElement.open = true;
  }
  if (focus) all(focusable, region).filter((each) => sign(each) === sign(focus))[place]?.focus({ preventScroll: true });
  mark();
  count();
  return true;
}

// One stream for the page while it is seen; where there is none it asks by itself.
function watch() {
  live.stream?.close();
  live.stream = null;
  clearInterval(live.poll);
  if (!all("[data-live]").length || document.hidden || live.paused) return;
  const stream = window.EventSource && new EventSource(`${document.body.dataset.base}/live`);
  const poll = () => {
    clearInterval(live.poll);
    live.poll = setInterval(() => want(null), Math.max(POLL, live.pace));
  };
  if (!stream) return poll();
  live.stream = stream;
  stream.addEventListener("open", () => clearInterval(live.poll));
  stream.addEventListener("change", (event) => {
    const { topics, pace } = JSON.parse(event.data);
    live.pace = 1000 * pace;
    want(topics);
  });
  stream.addEventListener("lost", (event) => {
    const since = new Date(JSON.parse(event.data).since);
    live.lost = `The database has not answered since ${clock(since)}: this page is as it was then. It is updated as soon as there is an answer.`;
    say(live.lost);
  });
  stream.addEventListener("back", () => { live.lost = ""; say(""); want(null); });
  stream.onerror = () => {
    if (stream !== live.stream) return;
    live.lost = "";
    poll(); // until the stream is open again
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => stream === live.stream && watch(), STREAM_AGAIN);
  };
}

setInterval(() => { if (Date.now() - live.at > EVEN_IF_QUIET) want(null); else if (live.wanted) refresh(); }, 1000);
document.addEventListener("visibilitychange", () => { watch(); if (!document.hidden) want(null); });

// --- Times go on: relative ones, and the visitor's own zone beside UTC.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const utc = (moment) => moment.toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC");
const local = (moment) => moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = (moment) => storage.get("zone") === "utc" ? utc(moment) : local(moment);

function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  seconds = Math.round(seconds);
  if (seconds < 60) return `${seconds} s`;
  const at = seconds < 600 ? 2 : UNITS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = UNITS[at];
  const [below, part] = UNITS[at + 1];
  const rest = Math.floor((seconds % size) / part);
  return `${Math.floor(seconds / size)} ${unit}${rest && seconds < 10 * size ? ` ${rest} ${below}` : ""}`;
}

function tick() {
  const now = Date.now() + skew;
  for (const time of all("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const seconds = (now - moment) / 1000;
    const form = time.dataset.form || "ago";
    const text = form === "clock" ? clock(moment) : form === "minute" ? moment.toLocaleTimeString(undefined, { timeStyle: "short", timeZone: storage.get("zone") === "utc" ? "UTC" : undefined })
      : form === "since" ? span(Math.max(0, seconds))
      : Math.abs(seconds) < 1 ? "now" : seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
    if (time.textContent !== text) time.textContent = text;
    const title = storage.get("zone") === "utc" ? `${utc(moment)}\n${local(moment)}` : `${local(moment)}\n${utc(moment)}`;
    if (time.title !== title) time.title = title;
  }
}

setInterval(() => document.hidden || tick(), 1000);

// --- Selection: ticked rows are counted, shift ticks all between two.

let lastTicked = null;

function count() {
  for (const list of all("form.bulk")) {
    const ticked = all("tbody input[type=checkbox]:checked", list).length;
    const text = list.querySelector("#ticked");
    if (text) text.textContent = ticked ? `${ticked} ticked; this list stands still meanwhile` : "";
  }
}

document.addEventListener("click", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || box.type !== "checkbox") return;
  const list = box.closest("form.bulk");
  if (!list) return;
  const rows = all("tbody input[type=checkbox]", list);
  if (box.matches("thead input")) for (const row of rows) row.checked = box.checked;
  else if (event.shiftKey && rows.includes(lastTicked) && rows.includes(box)) {
    const [from, to] = [rows.indexOf(lastTicked), rows.indexOf(box)].sort((a, b) => a - b);
    for (const row of rows.slice(from, to + 1)) row.checked = box.checked;
  }
  lastTicked = box;
  count();
});

// --- Confirmations: of what cannot be undone.

let confirmed = null;

document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.confirm || form.dataset.confirm;
  const dialog = byId("confirm");
  if (!question || confirmed === form || !dialog) return;
  event.preventDefault();
  byId("confirm-text").textContent = question;
  byId("confirm-yes").textContent = event.submitter?.textContent.trim() || "Yes";
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    confirmed = form;
    form.requestSubmit(event.submitter);
    confirmed = null;
  };
  dialog.showModal();
});

// --- Keys.

let at = -1;
const rows = () => all("main table tbody tr");

function mark() {
  rows().forEach((row, index) => row.classList.toggle("at", index === at));
}

function move(step) {
  const last = rows().length - 1;
  if (last < 0) return;
  at = Math.max(0, Math.min(last, at + step));
  mark();
  const row = rows()[at];
  row.scrollIntoView({ block: "nearest" });
  // Read aloud, and the place from which Tab goes on.
  row.tabIndex = -1;
  row.focus({ preventScroll: true });
}

function toggle(id) {
  const dialog = byId(id);
  if (dialog.open) dialog.close(); else dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, textarea, input:not([type=checkbox])")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]") && event.key !== "?") return;
  const row = rows()[at];
  const keys = {
    "/": () => byId("content").querySelector("input[type=search]")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => row?.querySelector("input[type=checkbox]")?.click(),
    r: () => want(null),
    p: () => byId("pause-live")?.click(),
    "?": () => toggle("help"),
  };
  if (event.key === "Enter" && event.target.matches("body, tr")) row?.querySelector("th a, a")?.click();
  else if (Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  }
});

// --- Buttons of the bar: of no use without this script, and shown by it.

function button(id, act) {
  const element = byId(id);
  if (!element) return;
  element.hidden = false;
  element.addEventListener("click", () => act(element));
}

const root = document.documentElement;
if (storage.get("theme")) root.dataset.theme = storage.get("theme");
button("theme", () => {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  storage.set("theme", root.dataset.theme);
});
button("zone", (element) => {
  storage.set("zone", storage.get("zone") === "utc" ? "local" : "utc");
  element.textContent = storage.get("zone") === "utc" ? "UTC" : "Local time";
  tick();
});
if (byId("zone")) byId("zone").textContent = storage.get("zone") === "utc" ? "UTC" : "Local time";
button("help-button", () => toggle("help"));
if (all("[data-live]").length) button("pause-live", (element) => {
  live.paused = !live.paused;
  element.setAttribute("aria-pressed", String(live.paused));
  element.textContent = live.paused ? "Paused" : "Live";
  watch();
  want(null);
});

live.at = Date.now();
tick();
watch();
