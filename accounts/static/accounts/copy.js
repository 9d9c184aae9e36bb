// Adds a button to each element with `data-copy` that copies this text.
"use strict";

async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch {
    // Browsers offer the clipboard only over HTTPS and on localhost, and people can deny it.
  }
  const shown = element.textContent;
  element.textContent = text;
  getSelection().selectAllChildren(element);
  document.execCommand("copy");
  element.textContent = shown;
}

document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await copy(element.dataset.copy, element);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    element.after(button);
  }
});
