// The pages work without this script. It searches while the user types; in an export, which has no server, it searches
// an index that it loads on the first search. Text from a cache is only ever set as text.
"use strict";
const form = document.querySelector("form[role=search]");
const results = document.getElementById("results");
const PAGE = 48;

function debounce(callback, milliseconds) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(callback, milliseconds); };
}

// With a server: fetch the page that the form would open, and show its results.
let pending = new AbortController();
async function live() {
  pending.abort();
  pending = new AbortController();
  const url = `${form.action}?${new URLSearchParams(new FormData(form))}`;
  try {
    const answer = await fetch(url, { signal: pending.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.getElementById("results");
    if (!answer.ok || !found) throw new Error(answer.statusText);
    results.replaceChildren(...found.childNodes);
    history.replaceState(null, "", url);
  } catch (error) {
    if (error.name !== "AbortError") form.submit();
  }
}

// Without a server: chunks of rows [key, prompt, sample, picture, reason, message, encoders], each loaded as a script.
const rows = [];
let loading = null;
const fold = (text) => text.normalize("NFKC").toUpperCase().toLowerCase();
window.armadaChunk = (number, chunk) => { rows[number] = chunk.map((row) => [...row, fold(row[1])]); };

function load() {
  const count = Number(form.dataset.chunks);
  loading ??= Promise.all(Array.from({ length: count }, (_, number) => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `search/${form.dataset.teacher}-${number}.js`;
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  })));
  return loading;
}

function shown(show) {
  const [kind, name] = [show.split(":", 1)[0], show.slice(show.indexOf(":") + 1)];
  return {
    all: () => true,
    drawn: (row) => !row[4],
    failed: (row) => row[4] && (kind === show || row[4] === name),
    with: (row) => row[6].includes(name),
    without: (row) => !row[4] && !row[6].includes(name),
  }[kind];
}

function card([key, prompt, sample, picture, reason, message]) {
  const one = document.getElementById("card").content.cloneNode(true);
  one.querySelector("a").href = `rows/${key.slice(0, 2)}/${key}.html`;
  one.querySelector(".prompt").textContent = prompt;
  const frame = one.querySelector(".frame");
  if (reason) {
    frame.classList.add("failed");
    frame.append(Object.assign(document.createElement("span"), { textContent: reason }));
    if (message) frame.append(Object.assign(document.createElement("small"), { textContent: message, dir: "auto" }));
  } else {
    frame.append(Object.assign(new Image(224, 224), { loading: "lazy", decoding: "async", alt: "", src: picture }));
  }
  one.querySelector("small").textContent = sample ? `sample ${sample}` : "";
  return one;
}

async function fromIndex(page = 1) {
  const counted = document.createElement("p");
  Object.assign(counted, { className: "count", textContent: "Loading the search index…" });
  counted.setAttribute("role", "status");
  if (!rows.length) results.replaceChildren(counted);
  await load();
  const words = fold(form.q.value).split(/\s+/).filter(Boolean);
  const counts = shown(form.show.value);
  const found = rows.flat().filter((row) => counts(row) && words.every((word) => row[7].includes(word)));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  counted.textContent = `${found.length.toLocaleString("en")} ${found.length === 1 ? "row" : "rows"}`;
  const pager = document.createElement("nav");
  pager.className = "pager";
  pager.setAttribute("aria-label", "Pages");
  const turn = (text, rel, to) => {
    const button = Object.assign(document.createElement("button"), { textContent: text, type: "button" });
    button.setAttribute("rel", rel);
    button.addEventListener("click", () => fromIndex(to).then(() => results.scrollIntoView()));
    return button;
  };
  if (page > 1) pager.append(turn("Previous", "prev", page - 1));
  pager.append(Object.assign(document.createElement("span"), { textContent: `page ${page} of ${pages}` }));
  if (page < pages) pager.append(turn("Next", "next", page + 1));
  const cards = document.createElement("ul");
  cards.className = "cards";
  cards.append(...found.slice((page - 1) * PAGE, page * PAGE).map(card));
  results.replaceChildren(counted, ...(pages > 1 ? [pager] : []), cards);
}

if (form && results) {
  const isExport = form.dataset.chunks !== undefined;
  const search = isExport ? () => fromIndex() : live;
  form.hidden = false;
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  const soon = debounce(search, 60);
  form.addEventListener("input", ({ target }) => { if (target !== form.teacher) soon(); });
  form.teacher?.addEventListener("change", () => { // another teacher has other encoders and reasons
    form.show.selectedIndex = 0;
    form.submit();
  });
  if (isExport && location.hash.startsWith("#show=")) {
    form.show.value = decodeURIComponent(location.hash.slice(6));
    search();
  }
}

// The live page: fetch it again every two seconds while it is visible, and take over what has changed.
const state = document.getElementById("live");
async function refresh() {
  if (document.hidden) return;
  const paused = () => document.getElementById("paused");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.getElementById("live");
    if (!answer.ok || !found) throw new Error(answer.statusText);
    const inside = document.activeElement?.getAttribute("aria-label");
    const places = [...state.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    const shown = new Map([...state.querySelectorAll("img")].map((one) => [one.getAttribute("src"), one]));
    for (const image of found.querySelectorAll("img")) { // a picture that is shown already stays
      const known = shown.get(image.getAttribute("src"));
      if (known) image.replaceWith(known);
    }
    state.replaceChildren(...found.childNodes);
    state.querySelectorAll(".scroll").forEach((one, number) => {
      one.scrollLeft = places[number] ?? 0;
      if (inside && one.getAttribute("aria-label") === inside) one.focus({ preventScroll: true });
    });
  } catch {
    paused().textContent = "The server does not answer; this page waits for it.";
  }
}
if (state) setInterval(refresh, Number(state.dataset.every));

// Keys: / focuses the search field, the left and right arrows turn pages.
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && form) {
    event.preventDefault();
    form.q.focus();
  }
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (rel) document.querySelector(`[rel=${rel}]`)?.click();
});
