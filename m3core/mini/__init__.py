"""The bundled model's files; `m3core.mini.build` makes them."""
