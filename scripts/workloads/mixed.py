"""A toy exchange, for the demo: traders settle trades on a few accounts and record them.

It has the faults that such code has: one lock around all settlements with pricing done inside it, a
statistics dict that every trade writes to, and one hot account.
"""

import threading

import _common

SYMBOLS = ("ALPHA", "BRAVO", "CEDAR", "DELTA")


class Account:
    """A cash balance and the fees paid; shared by all traders."""

    def __init__(self, name, balance):
        self.name = name
        self.balance = balance
        self.fees = 0
        self.history = []

    def charge_fee(self, amount):
        self.fees += amount
        self.balance -= amount


class OrderBook:
    """The bids and asks of one symbol."""

    def __init__(self, symbol, mid):
        self.symbol = symbol
        self.bids = [mid - step for step in range(1, 200)]
        self.asks = [mid + step for step in range(1, 200)]

    def mid_price(self):
        depth = zip(self.bids, self.asks)
        return sum((bid + ask) * weight for weight, (bid, ask) in enumerate(depth, 1)) // 39_800


class Exchange:
    """Order books, accounts, and the lock that guards settlements."""

    def __init__(self):
        self.settlement_lock = threading.Lock()
        self.stats = {}
        self.house = Account("house", 10**9)
        self.clients = [Account(f"client-{n}", 10**6) for n in range(4)]
        self.books = [OrderBook(symbol, 1_000 * n) for n, symbol in enumerate(SYMBOLS, 1)]

    def settle(self, buyer, seller, book):
        with self.settlement_lock:
            price = book.mid_price()  # the fault: pricing needs no lock
            buyer.balance -= price
            seller.balance += price
        return price

    def record_trade(self, trader, symbol, price):
        stats = self.stats
        for bucket in range(300):
            stats[(trader, symbol, bucket)] = price
        history = self.house.history
        history.append(price)
        if len(history) > 2_000:
            del history[:1_000]

    def collect_fee(self, price):
        for _ in range(60):
            self.house.charge_fee(price // 1_000)


def trade(exchange, stop, trader):
    turn = trader
    while not stop.requested:
        turn += 1
        clients = exchange.clients
        buyer, seller = clients[turn % len(clients)], clients[(turn + 1) % len(clients)]
        book = exchange.books[turn % len(exchange.books)]
        price = exchange.settle(buyer, seller, book)
        exchange.record_trade(trader, book.symbol, price)
        exchange.collect_fee(price)


def main():
    options = _common.parser(__doc__, threads=6).parse_args()
    exchange = Exchange()
    stop = _common.arm(options.seconds)
    _common.announce(lock=exchange.settlement_lock, stats=exchange.stats, account=exchange.house)
    _common.join(_common.start([(trade, exchange, stop, n) for n in range(options.threads)]))


if __name__ == "__main__":
    main()
