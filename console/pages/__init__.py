"""The HTML pages: one file per noun, which calls the same plain functions as the REST API does.

A page is ``page(request, "noun.html", **values)`` with a template that extends ``base.html`` and is made of the macros
in ``ui.html`` and ``forms.html``. All of it works without JavaScript; with it (``static/console.js``):

- ``ui.opens(address, text)``: the ``ui.dialog`` of that page is shown in a dialog instead of by going there;
- ``data-live="SECONDS"`` on an element with an id: it is fetched again from its page while it says so;
- ``data-preview="ADDRESS" data-fields="cron timezone"`` in a form: shows the ``data-fragment`` of the page that GET
  ADDRESS?cron=…&timezone=… gives, whenever one of these fields changes;
- ``<button formaction="ADDRESS" data-into="#ID">``: sends the form there and shows the ``data-fragment`` of the answer
  in that element; without JavaScript the answer is a page of its own, best the same form with what came out;
- ``forms.typed``: the button waits until the name has been typed (the server looks at it again).
"""
