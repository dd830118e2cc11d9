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
