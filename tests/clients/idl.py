"""The IDL of PyPI's package ovs on a server: idl.py REMOTE. Prints what it sees; any surprise is an exception."""
import sys
import uuid

import ovs.db.idl
import ovs.jsonrpc
import ovs.poller
import ovs.stream

remote = sys.argv[1]


def helper():
    error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(remote))
    assert not error, error
    rpc = ovs.jsonrpc.Connection(stream)
    request = ovs.jsonrpc.Message.create_request("get_schema", ["Open_vSwitch"])
    error, reply = rpc.transact_block(request)
    assert not error, error
    rpc.close()
    return ovs.db.idl.SchemaHelper(None, reply.result)


class Watched(ovs.db.idl.Idl):
    def notify(self, event, row, updates=None):
        changed = sorted(updates.__dict__["_data"]) if updates else []
        seen.append((event, row._table.name, getattr(row, "name", None), changed if event == "update" else []))


def until(idl, condition):
    for _ in range(500):
        idl.run()
        if condition():
            return
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.timer_wait(100)
        poller.block()
    raise Exception("it did not come")


def commit(txn):
    status = txn.commit_block()
    assert status in (txn.SUCCESS, txn.UNCHANGED), (status, txn.get_error())
    return status


seen = []
whole = helper()
whole.register_all()
idl = Watched(remote, whole)
until(idl, idl.has_ever_connected)
assert idl.cooperative_multitasking if hasattr(idl, "cooperative_multitasking") else True

txn = ovs.db.idl.Transaction(idl)
root = next(iter(idl.tables["Open_vSwitch"].rows.values()))
bridge = txn.insert(idl.tables["Bridge"])
bridge.name = "python"
bridge.external_ids = {"a": "1", "b": "2"}
root.addvalue("bridges", bridge)
txn.add_comment("from python")
commit(txn)
real = txn.get_insert_uuid(bridge.uuid)
until(idl, lambda: real in idl.tables["Bridge"].rows)
row = idl.tables["Bridge"].rows[real]
print("inserted", row.name, sorted(row.external_ids.items()))

txn = ovs.db.idl.Transaction(idl)
row.setkey("external_ids", "c", "3")
row.delkey("external_ids", "a")
row.verify("name")
commit(txn)
until(idl, lambda: "c" in idl.tables["Bridge"].rows[real].external_ids)
print("mutated", sorted(idl.tables["Bridge"].rows[real].external_ids.items()))

txn = ovs.db.idl.Transaction(idl)
root = next(iter(idl.tables["Open_vSwitch"].rows.values()))
before = root.next_cfg
root.increment("next_cfg")
root.setkey("external_ids", "x", "y")
commit(txn)
print("incremented by", txn.get_increment_new_value() - before)

txn = ovs.db.idl.Transaction(idl)
twin = txn.insert(idl.tables["Bridge"])
twin.name = "python"
root.addvalue("bridges", twin)
assert txn.commit_block() == txn.ERROR
print("refused", "constraint violation" in txn.get_error())

part = helper()
part.register_columns("Bridge", ["name", "external_ids"])
conditional = ovs.db.idl.Idl(remote, part)
conditional.cond_change("Bridge", [["name", "==", "nobody"]])
until(conditional, conditional.has_ever_connected)
print("condition shows", [r.name for r in conditional.tables["Bridge"].rows.values()])
conditional.cond_change("Bridge", [["name", "==", "python"]])
until(conditional, lambda: len(conditional.tables["Bridge"].rows) == 1)
print("condition shows", [r.name for r in conditional.tables["Bridge"].rows.values()])

other = helper()
other.register_columns("Bridge", ["name"])
lock = ovs.db.idl.Idl(remote, other)
lock.set_lock("the_lock")
until(lock, lambda: lock.has_lock)
idl.set_lock("the_lock")
until(idl, lambda: idl.is_lock_contended)
lock.close()
until(idl, lambda: idl.has_lock)
print("locked")

idl.force_reconnect()
until(idl, lambda: not idl.has_lock)
until(idl, lambda: idl.has_lock and idl.state == idl.IDL_S_MONITORING)
txn = ovs.db.idl.Transaction(idl)
root = next(iter(idl.tables["Open_vSwitch"].rows.values()))
root.delvalue("bridges", real)
idl.tables["Bridge"].rows[real].delete()
commit(txn)
until(idl, lambda: real not in idl.tables["Bridge"].rows)
until(conditional, lambda: not conditional.tables["Bridge"].rows)
print("deleted")
events = [(e, t, n, c) for e, t, n, c in seen if t == "Bridge"]
for event in events:
    print(*event)
assert isinstance(real, uuid.UUID)
