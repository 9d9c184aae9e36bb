// Behaviour that all pages of the console share. Everything also works without it.
"use strict";

const COPIED_MILLISECONDS = 2_000;
const SLOW_MILLISECONDS = 10_000;

// Copies the text of the element whose ID is in `data-copies`.
async function copy(button) {
  const element = document.getElementById(button.dataset.copies);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(element.dataset.whole ?? element.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers offer the clipboard only over HTTPS and on localhost, and people can refuse it.
    if (element.dataset.whole) element.textContent = element.dataset.whole;
    getSelection().selectAllChildren(element);
    button.textContent = "Press Ctrl+C to copy";
  }
  announce(button.textContent);
  setTimeout(() => (button.textContent = label), COPIED_MILLISECONDS);
}

// Tells screen readers about a change that is not a new page.
function announce(text) {
  let region = document.getElementById("status");
  if (!region) {
    region = document.createElement("p");
    region.id = "status";
    region.className = "hidden";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = text;
}

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}

// A second click must not send a form twice.
document.addEventListener("submit", ({ target, submitter }) => {
  if (target.method !== "post" || !submitter) return;
  // After the browser has read the form: a disabled button is left out of it.
  setTimeout(() => {
    submitter.disabled = true;
    submitter.textContent = "Saving…";
  });
  setTimeout(() => announce("This takes longer than usual. You can reload the page."), SLOW_MILLISECONDS);
});
// The page that Back returns to may be the same document.
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
