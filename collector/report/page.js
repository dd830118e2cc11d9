"use strict";
const said = document.getElementById("said");
for (const code of document.querySelectorAll("code.command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + code.textContent);
  button.addEventListener("click", async () => {
    let copied = false;
    if (navigator.clipboard) {
      copied = await navigator.clipboard.writeText(code.textContent).then(() => true, () => false);
    }
    if (!copied) {
      getSelection().selectAllChildren(code);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Copy it";
    said.textContent = copied ? "Copied: " + code.textContent : "Not copied. The command is selected.";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  code.after(button);
}

// The page has the time in UTC, and how old its figures were when it was sent: clocks differ.
const time = document.querySelector("time"), age = document.getElementById("age");
const taken = new Date(time.dateTime), two = (n) => String(n).padStart(2, "0");
const utc = time.textContent;
const local = two(taken.getHours()) + ":" + two(taken.getMinutes()) + ":" + two(taken.getSeconds());
time.textContent = taken.getTimezoneOffset() === 0 ? utc : local + " (" + utc + ")";
let fetched = 0;
setInterval(async () => {
  const seconds = Math.round(Number(age.dataset.seconds) + performance.now() / 1000);
  age.textContent = (seconds < 120 ? seconds + " s" : Math.floor(seconds / 60) + " min") + " old";
  if (seconds < 30 || performance.now() < fetched + 10000 || document.visibilityState !== "visible" || !getSelection().isCollapsed) {
    return;
  }
  fetched = performance.now();
  if (await fetch("").then((answer) => answer.ok, () => false)) {
    location.reload(); // else the figures stay, with their age
  }
}, 1000);
