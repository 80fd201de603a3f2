def page(text):
    return f"<!doctype html><title>Shop</title><h1>{text}</h1>"
