// The live feed: one line for each event that the server tells of. All text is set as text.
"use strict";
(() => {
  const live = document.getElementById("live");
  const feed = document.getElementById("feed");
  const state = document.getElementById("state");
  const KINDS = ["progress", "pushed", "pulled", "deleted", "restored", "collected", "quota"];
  const COLOURS = {deleted: " warn", quota: " warn"};
  const MOST = 200;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };

  const address = (data) => {
    const registry = `/console/registries/${encodeURIComponent(data.registry_id)}`;
    const reference = data.reference || data.digest;
    if (!data.image || data.type === "deleted") return registry;
    const image = encodeURIComponent(data.image);
    return reference ? `${registry}/manifest?image=${image}&ref=${encodeURIComponent(reference)}` : `${registry}/image?image=${image}`;
  };

  const subject = (data) => {
    const link = element("a", "what", name(data));
    link.href = address(data);
    return link;
  };

  const name = (data) => {
    const image = [data.registry, data.image].filter(Boolean).join("/");
    const tag = data.image ? data.reference : null;
    return tag ? `${image}:${tag}` : data.digest ? `${image}@${String(data.digest).slice(7, 19)}` : image;
  };

  const show = (kind, event) => {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    const line = element("li", "fresh", "");
    const at = data.at ? new Date(data.at) : new Date();
    const time = element("time", "", at.toLocaleTimeString());
    time.title = at.toISOString();
    line.append(time, element("span", `badge${COLOURS[kind] || ""}`, kind), subject(data),
      element("span", "muted small", data.actor || ""));
    feed.prepend(line);
    while (feed.children.length > MOST) feed.lastElementChild.remove();
    document.getElementById("quiet")?.remove();
  };

  const source = new EventSource(live.dataset.events);
  source.addEventListener("open", () => { live.classList.add("on"); state.textContent = "live"; });
  source.addEventListener("error", () => {
    live.classList.remove("on");
    state.textContent = source.readyState === EventSource.CLOSED ? "not live: reload the page" : "connecting again";
  });
  source.addEventListener("closing", (event) => {
    if (event.data.includes("unauthorized")) location.reload();
  });
  for (const kind of KINDS) source.addEventListener(kind, (event) => show(kind, event));
  window.addEventListener("pagehide", () => source.close());
})();
