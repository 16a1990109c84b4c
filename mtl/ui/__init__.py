"""The page. The only package that imports gradio; handlers parse, call and return."""
