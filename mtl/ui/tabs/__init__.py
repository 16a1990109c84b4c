"""One file per tab, each with `build(context)`. To add one: a file here and a line in `mtl.ui.app.TABS`."""
