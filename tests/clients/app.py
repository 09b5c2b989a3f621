"""PyPI's package ovsdbapp on a server: app.py vswitch|northbound REMOTE. Prints what it sees."""
import sys

from ovsdbapp.backend.ovs_idl import connection

schema, remote = sys.argv[1:]


def api(name, implementation):
    idl = connection.OvsdbIdl.from_server(remote, name)
    return implementation(connection.Connection(idl=idl, timeout=10))


if schema == "vswitch":
    from ovsdbapp.schema.open_vswitch import impl_idl

    ovs = api("Open_vSwitch", impl_idl.OvsdbIdl)
    ovs.add_br("app", datapath_type="dummy").execute(check_error=True)
    ovs.add_br("app", may_exist=True).execute(check_error=True)
    with ovs.transaction(check_error=True) as txn:
        txn.add(ovs.add_port("app", "p1"))
        txn.add(ovs.db_set("Interface", "p1", ("type", "dummy"), ("external_ids", {"iface-id": "x"})))
        txn.add(ovs.set_controller("app", ["tcp:127.0.0.1:1"]))
    print(ovs.list_br().execute(), ovs.list_ports("app").execute(), ovs.port_to_br("p1").execute())
    print(ovs.db_get("Interface", "p1", "external_ids").execute(), ovs.get_controller("app").execute())
    print([row["name"] for row in ovs.db_find("Interface", ("type", "=", "dummy")).execute()])
    ovs.del_port("p1", "app").execute(check_error=True)
    ovs.del_br("app").execute(check_error=True)
    print(ovs.list_br().execute(), ovs.br_exists("app").execute())
else:
    from ovsdbapp.schema.ovn_northbound import impl_idl

    nb = api("OVN_Northbound", impl_idl.OvnNbApiIdlImpl)
    with nb.transaction(check_error=True) as txn:
        txn.add(nb.ls_add("sw", other_config={"subnet": "10.0.0.0/24"}))
        txn.add(nb.lsp_add("sw", "p1"))
        txn.add(nb.lsp_add("sw", "p2"))
        txn.add(nb.lsp_set_addresses("p1", ["00:00:00:00:00:01 10.0.0.1"]))
        txn.add(nb.lr_add("router"))
        txn.add(nb.lrp_add("router", "rp", "00:00:00:00:00:ff", ["10.0.0.254/24"]))
    nb.acl_add("sw", "to-lport", 1000, "ip4", "allow-related").execute(check_error=True)
    nb.db_add("Logical_Switch", "sw", "external_ids", {"a": "b"}).execute(check_error=True)
    print(sorted(port.name for port in nb.lsp_list("sw").execute()), nb.lsp_get_addresses("p1").execute())
    print([router.name for router in nb.lr_list().execute()], len(nb.acl_list("sw").execute()))
    print(nb.db_get("Logical_Switch", "sw", "external_ids").execute())
    nb.lsp_del("p2").execute(check_error=True)
    nb.ls_del("sw").execute(check_error=True)
    print(nb.ls_list().execute())
