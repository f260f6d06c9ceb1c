"""A small shop service, for `heaptape demo`: orders in a database, made-up requests, a cache that is bounded, and one leak.

A client may ask for a page of its orders and go away before the last one. Nobody tells the service, which keeps the page open.
"""

import collections
import json
import sqlite3
import sys
import time

TICK = 0.01
REQUESTS_PER_TICK = 12
CUSTOMERS = 400
CACHED = 300


class Page:
    """Orders of a customer, read from the database as the client asks for them."""

    def __init__(self, base, customer):
        self.customer = customer
        self.rows = base.cursor()
        self.rows.execute("select number, article, total from orders where customer = ? order by total", (customer,))

    def next(self, count):
        return self.rows.fetchmany(count)


class Service:
    def __init__(self):
        self.base = sqlite3.connect(":memory:")
        self.base.execute("create table orders(number integer primary key, customer integer, article text, total real)")
        orders = ((number, number * 31 % CUSTOMERS, "article %d" % (number % 97), number % 89 + 0.5) for number in range(20000))
        self.base.executemany("insert into orders values(?, ?, ?, ?)", orders)
        self.base.execute("create index by_customer on orders(customer)")
        self.cache = collections.OrderedDict()
        self.open_pages = {}

    def answer(self, number):
        customer = number * 7919 % CUSTOMERS
        page = Page(self.base, customer)
        self.open_pages[number] = page
        answer = json.dumps([{"number": row[0], "article": row[1], "total": row[2]} for row in page.next(10)])
        self.cache[number] = answer
        if len(self.cache) > CACHED:
            self.cache.popitem(last=False)
        if number % 8:
            # The client has read to the end; of the others nobody hears again.
            del self.open_pages[number]


def main():
    service = Service()
    requests = 0
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        for _ in range(REQUESTS_PER_TICK):
            service.answer(requests)
            requests += 1
        time.sleep(TICK)
    print(requests, "requests answered,", len(service.open_pages), "pages open")


main()
