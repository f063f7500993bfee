// What HTML cannot do by itself: copying with one click, and picking exactly two tags. Everything else works without.
"use strict";
(() => {
  const toast = document.getElementById("copied");
  let timer = 0;

  const say = (text) => {
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => { toast.hidden = true; }, 2000);
  };

  // The clipboard is there on https and on localhost only; elsewhere the old way still works.
  const copyTheOldWay = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  const copy = async (button) => {
    const text = button.dataset.copy;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = copyTheOldWay(text);
    }
    button.focus();
    say(done ? "Copied" : "Your browser forbids copying: select the text instead");
  };

  const pick = (box) => {
    const picked = [...document.querySelectorAll("[data-pick]:checked")];
    if (picked.length > 2) picked.find((one) => one !== box).checked = false;
    label();
  };

  const label = () => {
    const button = document.getElementById("compare");
    if (!button) return;
    const picked = [...document.querySelectorAll("[data-pick]:checked")].map((one) => one.value);
    button.disabled = picked.length === 1;
    button.textContent = picked.length === 2 ? `Compare ${picked[0]} and ${picked[1]}`
      : picked.length === 1 ? "Pick one more to compare" : "Compare two tags";
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-pick]")) pick(event.target);
  });
  document.addEventListener("keydown", (event) => {
    const open = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
    }
    const typing = event.target.closest("input, select, textarea");
    const search = document.querySelector("input[type=search]");
    if (event.key === "/" && !typing && search) {
      event.preventDefault();
      search.focus();
    }
  });
  document.addEventListener("htmx:afterSwap", label);
  label();
})();
