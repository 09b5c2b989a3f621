// SPDX-License-Identifier: GPL-2.0
/* Offloaded connections: what act_ct's flow tables push, one direction a rule. */
#include "simnic.h"

#include <linux/netlink.h>
#include <net/netfilter/nf_flow_table.h>

static const struct rhashtable_params cookie_params = {
	.head_offset = offsetof(struct simnic_conn, by_cookie),
	.key_offset = offsetof(struct simnic_conn, cookie),
	.key_len = sizeof(unsigned long),
	.automatic_shrinking = true,
};

static const struct rhashtable_params tuple_params = {
	.head_offset = offsetof(struct simnic_conn, by_tuple),
	.key_offset = offsetof(struct simnic_conn, key),
	.key_len = sizeof(struct simnic_conn_key),
	.automatic_shrinking = true,
};

/* Under zone->lock. */
static void conn_remove(struct simnic_conn *conn)
{
	struct simnic_zone *zone = conn->zone;

	if (!conn->lost)
		rhashtable_remove_fast(&zone->by_cookie, &conn->by_cookie, cookie_params);
	rhashtable_remove_fast(&zone->by_tuple, &conn->by_tuple, tuple_params);
	list_del(&conn->list);
	atomic_dec(&zone->nic->n_connections);
	kfree_rcu(conn, rcu);
}

static int read_tuple(const struct flow_match *match, struct simnic_conn_key *key)
{
	const struct flow_dissector *d = match->dissector;
	const u8 *from = match->key;
	const struct flow_dissector_key_control *control;
	const struct flow_dissector_key_basic *basic;

	if (!dissector_uses_key(d, FLOW_DISSECTOR_KEY_CONTROL) || !dissector_uses_key(d, FLOW_DISSECTOR_KEY_BASIC))
		return -EOPNOTSUPP;
	control = (const void *)(from + d->offset[FLOW_DISSECTOR_KEY_CONTROL]);
	basic = (const void *)(from + d->offset[FLOW_DISSECTOR_KEY_BASIC]);
	key->n_proto = basic->n_proto;
	key->ip_proto = basic->ip_proto;
	if (control->addr_type == FLOW_DISSECTOR_KEY_IPV4_ADDRS) {
		const struct flow_dissector_key_ipv4_addrs *ip = (const void *)(from + d->offset[FLOW_DISSECTOR_KEY_IPV4_ADDRS]);

		key->src.s6_addr32[0] = ip->src;
		key->dst.s6_addr32[0] = ip->dst;
	} else if (control->addr_type == FLOW_DISSECTOR_KEY_IPV6_ADDRS) {
		const struct flow_dissector_key_ipv6_addrs *ip = (const void *)(from + d->offset[FLOW_DISSECTOR_KEY_IPV6_ADDRS]);

		key->src = ip->src;
		key->dst = ip->dst;
	} else {
		return -EOPNOTSUPP;
	}
	if (dissector_uses_key(d, FLOW_DISSECTOR_KEY_PORTS)) {
		const struct flow_dissector_key_ports *tp = (const void *)(from + d->offset[FLOW_DISSECTOR_KEY_PORTS]);

		key->src_port = tp->src;
		key->dst_port = tp->dst;
	}
	return 0;
}

/* Translation comes as changes of header words, with values in the host's order. */
static int read_mangle(const struct flow_action_entry *entry, struct simnic_conn_key *becomes)
{
	__be32 value = cpu_to_be32(entry->mangle.val);
	u32 at = entry->mangle.offset;

	switch (entry->mangle.htype) {
	case FLOW_ACT_MANGLE_HDR_TYPE_IP4:
		if (at == offsetof(struct iphdr, saddr))
			becomes->src.s6_addr32[0] = value;
		else if (at == offsetof(struct iphdr, daddr))
			becomes->dst.s6_addr32[0] = value;
		else
			return -EOPNOTSUPP;
		return 0;
	case FLOW_ACT_MANGLE_HDR_TYPE_IP6:
		if (at % 4 || at < offsetof(struct ipv6hdr, saddr) || at >= sizeof(struct ipv6hdr))
			return -EOPNOTSUPP;
		at -= offsetof(struct ipv6hdr, saddr);
		if (at < 16)
			becomes->src.s6_addr32[at / 4] = value;
		else
			becomes->dst.s6_addr32[at / 4 - 4] = value;
		return 0;
	case FLOW_ACT_MANGLE_HDR_TYPE_TCP:
	case FLOW_ACT_MANGLE_HDR_TYPE_UDP:
		if (at == offsetof(struct udphdr, source))
			becomes->src_port = cpu_to_be16(entry->mangle.val);
		else if (at == offsetof(struct udphdr, dest))
			becomes->dst_port = cpu_to_be16(entry->mangle.val);
		else
			return -EOPNOTSUPP;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int read_conn(const struct flow_rule *rule, struct simnic_conn *conn)
{
	const struct flow_action_entry *entry;
	int i, err = read_tuple(&rule->match, &conn->key);

	conn->becomes = conn->key;
	if (err)
		return err;
	flow_action_for_each(i, entry, &rule->action) {
		switch (entry->id) {
		case FLOW_ACTION_CT_METADATA:
			conn->mark = entry->ct_metadata.mark;
			memcpy(conn->labels, entry->ct_metadata.labels, sizeof(conn->labels));
			conn->ct_state = TCA_FLOWER_KEY_CT_FLAGS_TRACKED | TCA_FLOWER_KEY_CT_FLAGS_ESTABLISHED;
			if (!entry->ct_metadata.orig_dir)
				conn->ct_state |= TCA_FLOWER_KEY_CT_FLAGS_REPLY;
			break;
		case FLOW_ACTION_MANGLE:
			err = read_mangle(entry, &conn->becomes);
			if (err)
				return err;
			break;
		default:
			return -EOPNOTSUPP;
		}
	}
	return conn->ct_state ? 0 : -EOPNOTSUPP;
}

static int conn_insert(struct simnic_zone *zone, struct simnic_conn *conn)
{
	struct simnic_conn *old;
	int err;

	old = rhashtable_lookup_fast(&zone->by_cookie, &conn->cookie, cookie_params);
	if (old)
		conn_remove(old);
	/* One that the kernel deleted and the NIC kept gives way. */
	old = rhashtable_lookup_fast(&zone->by_tuple, &conn->key, tuple_params);
	if (old && old->lost)
		conn_remove(old);
	err = rhashtable_lookup_insert_fast(&zone->by_tuple, &conn->by_tuple, tuple_params);
	if (err)
		return err;
	err = rhashtable_insert_fast(&zone->by_cookie, &conn->by_cookie, cookie_params);
	if (err) {
		rhashtable_remove_fast(&zone->by_tuple, &conn->by_tuple, tuple_params);
		return err;
	}
	list_add_tail(&conn->list, &zone->conns);
	atomic_inc(&zone->nic->n_connections);
	return 0;
}

static int conn_add(struct simnic_zone *zone, struct flow_cls_offload *cls)
{
	struct netlink_ext_ack *extack = cls->common.extack;
	struct simnic *nic = zone->nic;
	struct simnic_conn *conn;
	int err = simnic_command(nic, READ_ONCE(nic->delay_us), extack);

	if (err)
		goto refused;
	err = -ENOSPC;
	if (atomic_read(&nic->n_connections) >= READ_ONCE(nic->max_connections))
		goto refused;
	err = -EIO;
	if (simnic_happens(READ_ONCE(nic->refuse_permille)))
		goto refused;
	err = -ENOMEM;
	conn = kzalloc(sizeof(*conn), GFP_KERNEL);
	if (!conn)
		goto refused;
	conn->zone = zone;
	conn->cookie = cls->cookie;
	conn->stats.used = jiffies;
	err = read_conn(cls->rule, conn);
	if (!err) {
		mutex_lock(&zone->lock);
		err = conn_insert(zone, conn);
		mutex_unlock(&zone->lock);
	}
	if (!err) {
		COUNT(nic, connections_added);
		return 0;
	}
	/* Readers may have seen it for a moment. */
	kfree_rcu(conn, rcu);
refused:
	COUNT(nic, connections_refused);
	return err;
}

static int conn_delete(struct simnic_zone *zone, struct flow_cls_offload *cls)
{
	struct simnic *nic = zone->nic;
	int err = simnic_command(nic, READ_ONCE(nic->delete_delay_us), cls->common.extack);
	bool lost = err || simnic_happens(READ_ONCE(nic->lose_deletes_permille));
	struct simnic_conn *conn;

	mutex_lock(&zone->lock);
	conn = rhashtable_lookup_fast(&zone->by_cookie, &cls->cookie, cookie_params);
	if (conn && lost) {
		rhashtable_remove_fast(&zone->by_cookie, &conn->by_cookie, cookie_params);
		conn->lost = true;
		COUNT(nic, connections_lost);
	} else if (conn) {
		conn_remove(conn);
		COUNT(nic, connections_deleted);
	}
	mutex_unlock(&zone->lock);
	return conn ? err : -ENOENT;
}

static int conn_stats(struct simnic_zone *zone, struct flow_cls_offload *cls)
{
	struct simnic_conn *conn;

	mutex_lock(&zone->lock);
	conn = rhashtable_lookup_fast(&zone->by_cookie, &cls->cookie, cookie_params);
	if (conn)
		simnic_tell(zone->nic, &conn->stats, &cls->stats);
	mutex_unlock(&zone->lock);
	return conn ? 0 : -ENOENT;
}

static int zone_callback(enum tc_setup_type type, void *data, void *cb_priv)
{
	struct flow_cls_offload *cls = data;

	if (type != TC_SETUP_CLSFLOWER)
		return -EOPNOTSUPP;
	switch (cls->command) {
	case FLOW_CLS_REPLACE:
		return conn_add(cb_priv, cls);
	case FLOW_CLS_DESTROY:
		return conn_delete(cb_priv, cls);
	case FLOW_CLS_STATS:
		return conn_stats(cb_priv, cls);
	default:
		return -EOPNOTSUPP;
	}
}

static void zone_free(struct work_struct *work)
{
	struct simnic_zone *zone = container_of(to_rcu_work(work), struct simnic_zone, work);

	rhashtable_destroy(&zone->by_cookie);
	rhashtable_destroy(&zone->by_tuple);
	kfree(zone);
}

void simnic_zone_put(struct simnic_zone *zone)
{
	if (!refcount_dec_and_test(&zone->refs))
		return;
	INIT_RCU_WORK(&zone->work, zone_free);
	queue_rcu_work(simnic_wq, &zone->work);
}

static struct simnic_zone *zone_make(struct simnic *nic, const struct flow_action_entry *entry)
{
	struct simnic_zone *zone = kzalloc(sizeof(*zone), GFP_KERNEL);

	if (!zone)
		return NULL;
	zone->nic = nic;
	zone->table = entry->ct.flow_table;
	zone->id = entry->ct.zone;
	mutex_init(&zone->lock);
	INIT_LIST_HEAD(&zone->conns);
	if (rhashtable_init(&zone->by_cookie, &cookie_params))
		goto free;
	if (rhashtable_init(&zone->by_tuple, &tuple_params))
		goto free_cookies;
	return zone;
free_cookies:
	rhashtable_destroy(&zone->by_cookie);
free:
	kfree(zone);
	return NULL;
}

/* Under nic->lock. */
struct simnic_zone *simnic_zone_get(struct simnic *nic, const struct flow_action_entry *entry,
				    struct netlink_ext_ack *extack)
{
	struct simnic_zone *zone;

	if (!entry->ct.flow_table) {
		NL_SET_ERR_MSG_MOD(extack, "the ct action has no flow table");
		return NULL;
	}
	list_for_each_entry(zone, &nic->zones, list)
		if (zone->table == entry->ct.flow_table) {
			zone->rules++;
			refcount_inc(&zone->refs);
			return zone;
		}
	zone = zone_make(nic, entry);
	if (!zone)
		return NULL;
	/* One for the list, one for the rule. */
	refcount_set(&zone->refs, 2);
	zone->rules = 1;
	if (nf_flow_table_offload_add_cb(zone->table, zone_callback, zone)) {
		NL_SET_ERR_MSG_MOD(extack, "the flow table of the ct action cannot be watched");
		zone_free(&zone->work.work);
		return NULL;
	}
	list_add_tail(&zone->list, &nic->zones);
	return zone;
}

/* Under nic->lock. With the last rule, the kernel's table and its connections go. */
void simnic_zone_unuse(struct simnic_zone *zone)
{
	struct simnic_conn *conn, *next;

	if (--zone->rules)
		return;
	nf_flow_table_offload_del_cb(zone->table, zone_callback, zone);
	list_del(&zone->list);
	mutex_lock(&zone->lock);
	list_for_each_entry_safe(conn, next, &zone->conns, list)
		conn_remove(conn);
	mutex_unlock(&zone->lock);
	simnic_zone_put(zone);
}

/* The connection that a packet belongs to, if it is one that the NIC can carry on with alone. */
struct simnic_conn *simnic_conn_lookup(struct simnic_zone *zone, const struct simnic_key *key)
{
	struct simnic_conn_key tuple = { .n_proto = key->basic.n_proto, .ip_proto = key->basic.ip_proto };

	if (key->control.flags & FLOW_DIS_IS_FRAGMENT)
		return NULL;
	if (key->control.addr_type == FLOW_DISSECTOR_KEY_IPV4_ADDRS) {
		tuple.src.s6_addr32[0] = key->ipv4.src;
		tuple.dst.s6_addr32[0] = key->ipv4.dst;
	} else if (key->control.addr_type == FLOW_DISSECTOR_KEY_IPV6_ADDRS) {
		tuple.src = key->ipv6.src;
		tuple.dst = key->ipv6.dst;
	} else {
		return NULL;
	}
	switch (key->basic.ip_proto) {
	case IPPROTO_TCP:
		/* Ends are the kernel's business: FIN and RST. */
		if (key->tcp.flags & htons(0x0005))
			return NULL;
		fallthrough;
	case IPPROTO_UDP:
		tuple.src_port = key->tp.src;
		tuple.dst_port = key->tp.dst;
		break;
	case IPPROTO_GRE:
		break;
	default:
		return NULL;
	}
	return rhashtable_lookup_fast(&zone->by_tuple, &tuple, tuple_params);
}
