// Shows the documentation of the REST API in the colours of the system: Swagger UI has dark ones, but does not choose.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");

function follow() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", follow);
follow();
