// Live regions, keys, confirmations. The page works without any of it.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// --- Live regions: fetched again with the address of the page, and put in place of the old ones.

const EVERY = 5000;

function isInUse(region) {
  const selection = document.getSelection();
  return region.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")
    || region.querySelector("input[type=checkbox]:checked")
    || (selection && !selection.isCollapsed && region.contains(selection.anchorNode));
}

async function refresh() {
  const regions = all("[data-live]");
  if (!regions.length || document.hidden || regions.every(isInUse)) return;
  try {
    const answer = await fetch(location.href, { headers: { "X-Live": "1" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of regions) {
      const next = fresh.getElementById(region.id);
      if (next && !isInUse(region)) region.replaceChildren(...next.childNodes);
    }
    tell("");
  } catch {
    tell("The server does not answer; this page is as it was, and asks again.");
  }
}

function tell(text) {
  const state = document.getElementById("live-state");
  state.textContent = text;
  state.hidden = !text;
}

setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", refresh);

// --- Confirmations: of what cannot be undone.

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// --- Keys.

let at = -1;

function move(step) {
  const rows = all("main table tbody tr");
  if (!rows.length) return;
  at = Math.max(0, Math.min(rows.length - 1, at + step));
  rows.forEach((row, index) => row.classList.toggle("at", index === at));
  rows[at].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const row = document.querySelector("tr.at");
  const keys = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => row?.querySelector("input[type=checkbox]")?.click(),
    Enter: () => event.target === document.body && row?.querySelector("a")?.click(),
    "?": () => document.getElementById("help").showModal(),
  };
  if (event.key in keys) {
    if (event.key !== "Enter") event.preventDefault();
    keys[event.key]();
  }
});

const help = document.getElementById("help-button");
help.hidden = false;
help.addEventListener("click", () => document.getElementById("help").showModal());

// --- Light and dark, other than the system's.

const theme = document.getElementById("theme");
const root = document.documentElement;
if (localStorage.getItem("pgjobs-theme")) root.dataset.theme = localStorage.getItem("pgjobs-theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("pgjobs-theme", root.dataset.theme);
});
