"use strict";
/* Keeps a page as it is now: asks for it again and swaps in what changed, without moving what is being read. All of it
   is in the page without this script, too. */
(() => {
  const EVERY = 3000, AT_MOST = 30000, OLD = 15000, LIMIT = 20000;
  const main = document.getElementById("main"), live = document.getElementById("live");
  const nav = [...document.querySelectorAll("[data-go]")];
  const make = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
  let tag = "", wait = EVERY, timer = 0, paused = false, busy = false, trouble = "", held = null, prefix = -Infinity;
  let known = timeOf(main), seen = performance.now();
  let isLocal = false;
  try { isLocal = sessionStorage.getItem("times") === "local"; } catch { /* kept nowhere then */ }

  /* --- the clock and the age ------------------------------------------------------------- */
  function timeOf(within) {
    const at = within.querySelector("time.as-of");
    return at ? Date.parse(at.dateTime) : Date.now();
  }
  const now = () => known + performance.now() - seen;
  const two = (number) => String(number).padStart(2, "0");
  function clock(at) {
    const date = new Date(at);
    return isLocal ? `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
      : `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} UTC`;
  }
  function rough(seconds) {
    if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
      if (seconds >= size) return `${Math.floor(seconds / size).toLocaleString("en")} ${unit}`;
    return `${Math.floor(seconds)} s`;
  }
  const status = make("span", ""), pause = make("button", "pause", { type: "button" });
  pause.addEventListener("click", () => { paused = !paused; tell(); if (!paused) ask(); });
  function tell() {
    const age = performance.now() - seen, away = main.dataset.state === "away", old = age > OLD || trouble !== "" || away;
    const since = `${clock(known)}, ${rough(age / 1000)} old`;
    status.textContent = away ? paused ? "paused ·" : "no answer yet ·" : paused ? `paused at ${since} ·`
      : trouble ? `${trouble}; this is of ${since} ·` : held ? `held at ${since}: text is selected ·`
        : old ? `${since} ·` : `${clock(now())} · live ·`;
    pause.textContent = paused ? "go on" : "pause";
    live.classList.toggle("is-old", old);
    document.body.classList.toggle("is-stale", old);
    if (old || paused) return;
    for (const one of main.querySelectorAll("time.age")) {
      const text = rough(Math.max(0, (now() - Date.parse(one.dateTime)) / 1000));
      if (one.textContent !== text && !/ ms$| \d\.\d s$/.test(one.textContent)) one.textContent = text;
    }
  }
  function zone() {
    for (const one of main.querySelectorAll("time[datetime]:not(.age)")) {
      one.dataset.utc ??= one.textContent;
      const date = new Date(one.dateTime), day = one.dataset.utc.includes("-");
      const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
      const long = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${text.slice(0, 5)}`;
      const shown = isLocal ? (day ? long : text + (one.dataset.utc.match(/\.\d+$/) || [""])[0]) : one.dataset.utc;
      if (one.textContent !== shown) one.textContent = shown;
    }
  }

  /* --- asking ---------------------------------------------------------------------------- */
  const follows = () => main.dataset.state !== "wrong" && !main.dataset.live;
  function later() {
    clearTimeout(timer);
    if (!document.hidden && !paused && follows()) timer = setTimeout(ask, wait * (0.9 + Math.random() / 5));
  }
  async function ask() {
    if (busy || document.hidden) return;
    busy = true;
    clearTimeout(timer);
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const reply = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(LIMIT) });
      const text = reply.status === 304 ? "" : await reply.text();
      if (reply.status === 200) swap(text, reply.headers.get("ETag") || "");
      else if (reply.status !== 304) throw new Error(reasonIn(text) || `the server says ${reply.status}`);
      else if (reply.headers.get("Date")) known = Date.parse(reply.headers.get("Date"));
      if (!held) { trouble = ""; seen = performance.now(); }
      wait = EVERY;
    } catch (error) {
      trouble = error.name === "TypeError" ? "no answer" : error.name === "TimeoutError" ? "no answer in time" : error.message;
      wait = Math.min(AT_MOST, wait * 1.6);
    }
    busy = false;
    tell();
    later();
  }
  function reasonIn(text) {
    const found = new DOMParser().parseFromString(text, "text/html").querySelector("main p");
    return found ? found.textContent.trim().slice(0, 200) : "";
  }

  /* --- swapping -------------------------------------------------------------------------- */
  function swap(text, newTag) {
    const next = new DOMParser().parseFromString(text, "text/html");
    const wanted = next.getElementById("main");
    if (!wanted) throw new Error("the server answers with another page");
    const selection = getSelection();
    if (!selection.isCollapsed && main.contains(selection.anchorNode)) { held = text; tag = ""; return; }
    held = null;
    tag = newTag;
    known = timeOf(wanted);
    document.title = next.title;
    const focused = document.activeElement;
    morph(main, wanted, false);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    if (isLocal) zone();
  }
  const keyOf = (node) => node.nodeType === 1 ? node.dataset.key || node.id || "" : "";
  function morph(from, to, all) {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) { from.replaceWith(document.importNode(to, true)); return; }
    if (from.nodeType !== 1) { if (from.data !== to.data) from.data = to.data; return; }
    for (const { name, value } of [...to.attributes])
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    for (const { name } of [...from.attributes])
      if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS") && name !== "data-utc" && name !== "class") from.removeAttribute(name);
    if (from.nodeName === "TIME") delete from.dataset.utc;
    if (from.nodeName === "INPUT") return;
    if ("gathers" in from.dataset && !all && gathered(from, to)) return;
    children(from, to, all);
  }
  function children(from, to, all) {
    const old = new Map();
    for (const one of from.childNodes) if (keyOf(one)) old.set(keyOf(one), one);
    let at = from.firstChild;
    for (const one of [...to.childNodes]) {
      const key = keyOf(one);
      while (at && at.nodeType === 1 && "own" in at.dataset) at = at.nextSibling;
      const match = key ? old.get(key) : at && !keyOf(at) && at.nodeName === one.nodeName ? at : null;
      if (!match) {
        const added = document.importNode(one, true);
        if (all && added.nodeName === "TR") fresh(added);
        from.insertBefore(added, at);
        continue;
      }
      old.delete(key);
      if (match === at) at = at.nextSibling; else from.insertBefore(match, at);
      morph(match, one, all);
    }
    while (at) { const gone = at; at = at.nextSibling; if (!(gone.nodeType === 1 && "own" in gone.dataset)) gone.remove(); }
  }
  function fresh(row) {
    row.classList.add("is-new");
    setTimeout(() => row.classList.remove("is-new"), 2500);
  }
  /* New rows wait until they are wanted; those that are there change in their place. */
  function gathered(from, to) {
    const rows = new Map([...from.rows].map((row) => [keyOf(row), row]));
    const more = [...to.rows].filter((row) => !rows.has(keyOf(row)));
    if (!rows.size || !more.length) { arrived(from, 0); return false; }
    for (const row of to.rows) if (rows.has(keyOf(row))) morph(rows.get(keyOf(row)), row, false);
    arrived(from, more.length, () => { children(from, to, true); arrived(from, 0); if (isLocal) zone(); });
    return true;
  }
  function arrived(body, count, show) {
    const table = body.closest("table");
    let box = table.previousElementSibling;
    if (!box || !box.classList.contains("arrived")) {
      if (!count) return;
      box = make("p", "", { className: "arrived" });
      box.dataset.own = "";
      box.setAttribute("role", "status");
      table.before(box);
    }
    if (!count) { box.remove(); return; }
    const button = box.firstChild || box.appendChild(make("button", "", { type: "button" }));
    const text = `${count.toLocaleString("en")}${count >= body.rows.length ? " or more" : ""} new`;
    if (button.textContent !== text) button.textContent = text;
    button.onclick = show;
  }

  /* --- keys ------------------------------------------------------------------------------ */
  const KEYS = [["/", "the filter"], ["j k", "next row, row before"], ["Enter", "open it"], ["g …", nav.map((one) => `${one.dataset.go} ${one.textContent.toLowerCase()}`).join(", ")],
    ["r", "ask again, show what is new"], ["t", "times of here, or in UTC"], ["p", "pause"], ["?", "this list"]];
  function help() {
    let box = document.getElementById("keys");
    if (!box) {
      box = make("dialog", "", { id: "keys" });
      const list = make("dl", "", { className: "facts" });
      for (const [key, text] of KEYS) list.append(make("dt", ""), make("dd", text)), list.lastChild.previousSibling.append(make("kbd", key));
      const form = make("form", "", { method: "dialog" });
      form.append(make("button", "Close", { className: "boxed" }));
      box.append(make("h2", "Keys"), list, form);
      box.setAttribute("aria-label", "Keys");
      document.body.append(box);
    }
    box.open ? box.close() : box.showModal();
  }
  function step(by) {
    const rows = [...main.querySelectorAll("tbody tr, .problem")].filter((row) => row.querySelector("a") && row.offsetParent);
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
    next.querySelector("a").focus();
    next.scrollIntoView({ block: "nearest" });
  }
  const ACTIONS = {
    "/": () => { const box = main.querySelector("[data-find]"); if (box) { box.focus(); box.select(); } else nav.find((one) => one.dataset.go === "t").click(); },
    j: () => step(1), k: () => step(-1), "?": help, p: () => live.querySelector("button")?.click(),
    r: () => { const button = main.querySelector(".arrived button"); if (button) button.click(); else ask(); },
    t: () => { isLocal = !isLocal; try { sessionStorage.setItem("times", isLocal ? "local" : "utc"); } catch { /* until the next page */ } zone(); tell(); },
  };
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && typing) { typing.blur(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const link = event.timeStamp - prefix < 1500 && nav.find((one) => one.dataset.go === event.key);
    prefix = -Infinity;
    if (link) link.click();
    else if (event.key === "g") prefix = event.timeStamp;
    else if (ACTIONS[event.key]) ACTIONS[event.key](event);
    else return;
    event.preventDefault();
  });

  for (const one of main.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    const button = make("button", "copy", { type: "button" });
    button.dataset.own = "";
    button.addEventListener("click", () => navigator.clipboard.writeText(one.textContent).then(() => { button.textContent = "copied"; }));
    one.after(" ", button);
  }
  document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else if (!paused && follows()) ask(); });
  if (!follows()) return;
  live.replaceChildren(status, " ", pause);
  setInterval(tell, 1000);
  if (isLocal) zone();
  tell();
  later();
})();
