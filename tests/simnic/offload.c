// SPDX-License-Identifier: GPL-2.0
/* What tc asks for: blocks of ports and tunnel devices, their rules, policers. */
#include "simnic.h"

#include <linux/delay.h>
#include <linux/netlink.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <net/geneve.h>
#include <net/psample.h>
#include <net/vxlan.h>
#include <uapi/linux/tc_act/tc_ct.h>

static LIST_HEAD(port_blocks);
static LIST_HEAD(tunnel_blocks);

bool simnic_happens(u32 permille)
{
	return permille && prandom_u32_max(1000) < permille;
}

int simnic_command(struct simnic *nic, u32 delay_us, struct netlink_ext_ack *extack)
{
	unsigned long until = jiffies + msecs_to_jiffies(READ_ONCE(nic->answer_timeout_ms));

	while (!READ_ONCE(nic->answering)) {
		if (time_after(jiffies, until) || READ_ONCE(nic->dying)) {
			COUNT(nic, timeouts);
			NL_SET_ERR_MSG_MOD(extack, "the NIC does not answer");
			return -ETIMEDOUT;
		}
		msleep(5);
	}
	if (delay_us)
		usleep_range(delay_us, delay_us + delay_us / 8 + 1);
	return 0;
}

void simnic_hit(struct simnic_stats *stats, unsigned int bytes)
{
	atomic64_inc(&stats->packets);
	atomic64_add(bytes, &stats->bytes);
	WRITE_ONCE(stats->used, jiffies);
}

/* Adds what was counted since it was told last. */
void simnic_tell(struct simnic *nic, struct simnic_stats *stats, struct flow_stats *to)
{
	u64 packets, bytes, drops;
	u32 back;

	if (READ_ONCE(nic->stats_stuck))
		return;
	spin_lock_bh(&nic->stats_lock);
	packets = atomic64_read(&stats->packets);
	bytes = atomic64_read(&stats->bytes);
	drops = atomic64_read(&stats->drops);
	back = min_t(u64, nic->stats_rewind, stats->told_packets);
	if (back) {
		/* As if the hardware's counter had lost some. */
		nic->stats_rewind = 0;
		atomic64_sub(back + packets - stats->told_packets, &stats->packets);
		packets = stats->told_packets - back;
	}
	flow_stats_update(to, bytes - stats->told_bytes, packets - stats->told_packets, drops - stats->told_drops,
			  READ_ONCE(stats->used), FLOW_ACTION_HW_STATS_DELAYED);
	stats->told_packets = packets;
	stats->told_bytes = bytes;
	stats->told_drops = drops;
	spin_unlock_bh(&nic->stats_lock);
}

/* What is read of a rule's actions. */
struct reading {
	struct simnic *nic;
	struct netlink_ext_ack *extack;
	struct simnic_action *actions;
	unsigned int n;
	bool tunnel; /* One is set. */
	bool partial;
	bool ended;
};

static int refuse(struct reading *reading, const char *why)
{
	if (reading->extack)
		reading->extack->_msg = why;
	return -EOPNOTSUPP;
}
#define REFUSE(reading, why) refuse(reading, KBUILD_MODNAME ": " why)

static int read_tunnel_set(struct reading *reading, const struct ip_tunnel_info *info, struct simnic_action *action)
{
	struct ip_tunnel_info *to;

	if (!info)
		return REFUSE(reading, "a tunnel_key action without a key");
	action->tunnel = metadata_dst_alloc(info->options_len, METADATA_IP_TUNNEL, GFP_KERNEL);
	if (!action->tunnel)
		return -ENOMEM;
	to = &action->tunnel->u.tun_info;
	to->key = info->key;
	to->mode = info->mode;
	ip_tunnel_info_opts_set(to, ip_tunnel_info_opts((struct ip_tunnel_info *)info), info->options_len, 0);
	reading->tunnel = true;
	return 0;
}

static int read_target(struct reading *reading, const struct flow_action_entry *entry, struct simnic_action *action)
{
	bool ingress = entry->id == FLOW_ACTION_REDIRECT_INGRESS || entry->id == FLOW_ACTION_MIRRED_INGRESS;
	struct net_device *dev = entry->dev;

	if (!dev)
		return REFUSE(reading, "the output device is gone");
	if (!net_eq(dev_net(dev), reading->nic->net))
		return REFUSE(reading, "the output device is in another network namespace");
	action->to.ifindex = dev->ifindex;
	if (ingress) {
		action->to.kind = SIMNIC_TO_STACK;
		return netif_is_ovs_master(dev) ? 0 : REFUSE(reading, "no redirection to this device's ingress");
	}
	action->to.port = simnic_port_of(reading->nic, dev);
	if (action->to.port)
		return 0;
	if (netif_is_vxlan(dev)) {
		action->to.tunnel = SIMNIC_VXLAN;
		action->to.udp_port = ((struct vxlan_dev *)netdev_priv(dev))->cfg.dst_port;
	} else if (netif_is_geneve(dev)) {
		action->to.tunnel = SIMNIC_GENEVE;
		action->to.udp_port = htons(GENEVE_UDP_PORT);
	} else {
		return REFUSE(reading, "the output device is not one of this NIC");
	}
	action->to.kind = SIMNIC_TO_TUNNEL;
	return reading->tunnel ? 0 : REFUSE(reading, "output to a tunnel without a tunnel key");
}

static int read_police(struct reading *reading, const struct flow_action_entry *entry, struct simnic_action *action)
{
	enum flow_action_id exceed = entry->police.exceed.act_id, conform = entry->police.notexceed.act_id;

	if (exceed != FLOW_ACTION_DROP && exceed != FLOW_ACTION_PIPE && exceed != FLOW_ACTION_ACCEPT)
		return REFUSE(reading, "police: exceeding packets can be dropped, piped or passed only");
	if (conform != FLOW_ACTION_PIPE && conform != FLOW_ACTION_ACCEPT)
		return REFUSE(reading, "police: conforming packets can be piped or passed only");
	if (entry->police.peakrate_bytes_ps || entry->police.avrate)
		return REFUSE(reading, "police: no peak or average rates");
	action->police.exceed = exceed;
	action->police.conform = conform;
	action->police.policer = simnic_policer_get(reading->nic, entry);
	if (exceed == FLOW_ACTION_ACCEPT || conform == FLOW_ACTION_ACCEPT)
		reading->partial = true;
	if (conform == FLOW_ACTION_ACCEPT)
		reading->ended = true;
	return action->police.policer ? 0 : -ENOMEM;
}

static int read_ct(struct reading *reading, const struct flow_action_entry *entry, struct simnic_action *action)
{
	if (entry->ct.action & TCA_CT_ACT_CLEAR)
		return 0;
	reading->partial = true;
	action->ct.zone = simnic_zone_get(reading->nic, entry, reading->extack);
	return action->ct.zone ? 0 : -EOPNOTSUPP;
}

static void read_mpls(const struct flow_action_entry *entry, struct simnic_action *action)
{
	switch (entry->id) {
	case FLOW_ACTION_MPLS_PUSH:
		action->mpls.proto = entry->mpls_push.proto;
		action->mpls.label = entry->mpls_push.label;
		action->mpls.tc = entry->mpls_push.tc;
		action->mpls.bos = entry->mpls_push.bos;
		action->mpls.ttl = entry->mpls_push.ttl;
		return;
	case FLOW_ACTION_MPLS_POP:
		action->mpls.proto = entry->mpls_pop.proto;
		return;
	default:
		action->mpls.label = entry->mpls_mangle.label;
		action->mpls.tc = entry->mpls_mangle.tc;
		action->mpls.bos = entry->mpls_mangle.bos;
		action->mpls.ttl = entry->mpls_mangle.ttl;
	}
}

static int read_mangle(struct reading *reading, const struct flow_action_entry *entry, struct simnic_action *action)
{
	if (entry->mangle.htype == FLOW_ACT_MANGLE_UNSPEC)
		return REFUSE(reading, "pedit: only headers that are named can be changed");
	action->mangle.base = entry->mangle.htype;
	action->mangle.offset = entry->mangle.offset;
	action->mangle.mask = entry->mangle.mask;
	action->mangle.val = entry->mangle.val;
	return 0;
}

static int read_action(struct reading *reading, const struct flow_action_entry *entry, struct simnic_action *action)
{
	if (reading->nic->refuse_actions[entry->id / 32] & BIT(entry->id % 32))
		return REFUSE(reading, "firmware level support is missing for an action");
	if (reading->ended)
		return REFUSE(reading, "actions behind the one that ends the rule");
	action->id = entry->id;
	switch (entry->id) {
	case FLOW_ACTION_ACCEPT:
	case FLOW_ACTION_TRAP:
		reading->partial = true;
		fallthrough;
	case FLOW_ACTION_DROP:
		reading->ended = true;
		return 0;
	case FLOW_ACTION_GOTO:
		action->chain = entry->chain_index;
		reading->partial = true;
		reading->ended = true;
		return 0;
	case FLOW_ACTION_REDIRECT:
	case FLOW_ACTION_REDIRECT_INGRESS:
		reading->ended = true;
		fallthrough;
	case FLOW_ACTION_MIRRED:
	case FLOW_ACTION_MIRRED_INGRESS:
		return read_target(reading, entry, action);
	case FLOW_ACTION_VLAN_PUSH:
	case FLOW_ACTION_VLAN_MANGLE:
		action->vlan.vid = entry->vlan.vid;
		action->vlan.proto = entry->vlan.proto;
		action->vlan.prio = entry->vlan.prio;
		return 0;
	case FLOW_ACTION_TUNNEL_ENCAP:
		return read_tunnel_set(reading, entry->tunnel, action);
	case FLOW_ACTION_TUNNEL_DECAP:
		reading->tunnel = false;
		return 0;
	case FLOW_ACTION_VLAN_POP:
	case FLOW_ACTION_PIPE:
		return 0;
	case FLOW_ACTION_MANGLE:
	case FLOW_ACTION_ADD:
		return read_mangle(reading, entry, action);
	case FLOW_ACTION_CSUM:
		action->csum_flags = entry->csum_flags;
		return 0;
	case FLOW_ACTION_MARK:
		action->mark = entry->mark;
		return 0;
	case FLOW_ACTION_PTYPE:
		action->ptype = entry->ptype;
		return 0;
	case FLOW_ACTION_PRIORITY:
		action->priority = entry->priority;
		return 0;
	case FLOW_ACTION_SAMPLE:
		action->sample.group = entry->sample.psample_group;
		action->sample.rate = entry->sample.rate;
		action->sample.trunc_size = entry->sample.truncate ? entry->sample.trunc_size : 0;
		psample_group_take(action->sample.group);
		return 0;
	case FLOW_ACTION_POLICE:
		return read_police(reading, entry, action);
	case FLOW_ACTION_CT:
		return read_ct(reading, entry, action);
	case FLOW_ACTION_MPLS_PUSH:
	case FLOW_ACTION_MPLS_POP:
	case FLOW_ACTION_MPLS_MANGLE:
		read_mpls(entry, action);
		return 0;
	default:
		return REFUSE(reading, "an action is not supported");
	}
}

void simnic_actions_release(struct simnic_action *actions, unsigned int n, bool used)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct simnic_action *action = &actions[i];

		if (action->id == FLOW_ACTION_POLICE && action->police.policer)
			simnic_policer_put(action->police.policer);
		else if (action->id == FLOW_ACTION_SAMPLE && action->sample.group)
			psample_group_put(action->sample.group);
		else if (action->id == FLOW_ACTION_CT && action->ct.zone) {
			if (used)
				simnic_zone_unuse(action->ct.zone);
			simnic_zone_put(action->ct.zone);
		}
	}
}

void simnic_actions_free(struct simnic_action *actions, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (actions[i].id == FLOW_ACTION_TUNNEL_ENCAP && actions[i].tunnel)
			dst_release(&actions[i].tunnel->dst);
	kfree(actions);
}

static int read_actions(struct reading *reading, const struct flow_action *from)
{
	const struct flow_action_entry *entry;
	int i, err = 0;

	reading->actions = kcalloc(max(from->num_entries, 1U), sizeof(*reading->actions), GFP_KERNEL);
	if (!reading->actions)
		return -ENOMEM;
	flow_action_for_each(i, entry, from) {
		err = read_action(reading, entry, &reading->actions[reading->n++]);
		if (err)
			return err;
	}
	return reading->ended ? 0 : REFUSE(reading, "the rule does not say what becomes of a packet in the end");
}

/* The port that a geneve device listens at is its driver's secret: rules tell it. */
static void learn_port(struct simnic_source *source, const struct flow_match *match)
{
	const struct flow_dissector *d = match->dissector;
	const struct flow_dissector_key_ports *key, *mask;

	if (source->kind != SIMNIC_GENEVE || !dissector_uses_key(d, FLOW_DISSECTOR_KEY_ENC_PORTS))
		return;
	key = match->key + d->offset[FLOW_DISSECTOR_KEY_ENC_PORTS];
	mask = match->mask + d->offset[FLOW_DISSECTOR_KEY_ENC_PORTS];
	if (mask->dst == htons(0xffff))
		WRITE_ONCE(source->udp_port, key->dst);
}

static int insert(struct simnic_source *source, struct flow_cls_offload *cls)
{
	struct reading reading = { .nic = source->nic, .extack = cls->common.extack };
	struct simnic *nic = source->nic;
	int err;

	if (atomic_read(&nic->n_rules) >= READ_ONCE(nic->max_rules)) {
		NL_SET_ERR_MSG_MOD(reading.extack, "the table is full");
		return -ENOSPC;
	}
	err = read_actions(&reading, &cls->rule->action);
	if (!err)
		err = simnic_tcam_insert(source, cls, reading.actions, reading.n, reading.partial);
	if (err && reading.actions) {
		simnic_actions_release(reading.actions, reading.n, true);
		simnic_actions_free(reading.actions, reading.n);
	}
	return err;
}

static int add_rule(struct simnic_source *source, struct flow_cls_offload *cls)
{
	struct netlink_ext_ack *extack = cls->common.extack;
	struct simnic *nic = source->nic;
	int err = simnic_command(nic, READ_ONCE(nic->delay_us), extack);

	if (!err && simnic_happens(READ_ONCE(nic->refuse_permille))) {
		NL_SET_ERR_MSG_MOD(extack, "refused by the firmware");
		err = -EIO;
	}
	if (!err)
		err = simnic_tcam_supports(nic, &cls->rule->match, extack);
	if (!err) {
		mutex_lock(&nic->lock);
		learn_port(source, &cls->rule->match);
		err = insert(source, cls);
		mutex_unlock(&nic->lock);
	}
	simnic_count(nic, err ? SIMNIC_C_rules_refused : SIMNIC_C_rules_added);
	return err;
}

static int delete_rule(struct simnic_source *source, struct flow_cls_offload *cls)
{
	struct simnic *nic = source->nic;
	int err = simnic_command(nic, READ_ONCE(nic->delete_delay_us), cls->common.extack);
	bool lost = err || simnic_happens(READ_ONCE(nic->lose_deletes_permille));
	struct simnic_rule *rule;

	/* The kernel takes a block's rules after the block: the table is empty then, whatever it makes of each. */
	lost &= READ_ONCE(source->bound);

	mutex_lock(&nic->lock);
	rule = simnic_tcam_find(source, cls->cookie);
	if (!rule) {
		err = -ENOENT;
	} else if (lost) {
		simnic_tcam_lose(rule);
		COUNT(nic, rules_lost);
	} else {
		simnic_tcam_remove(rule);
		COUNT(nic, rules_deleted);
	}
	mutex_unlock(&nic->lock);
	return err;
}

static int rule_stats(struct simnic_source *source, struct flow_cls_offload *cls)
{
	struct simnic_rule *rule;

	mutex_lock(&source->nic->lock);
	rule = simnic_tcam_find(source, cls->cookie);
	if (rule)
		simnic_tell(source->nic, &rule->stats, &cls->stats);
	mutex_unlock(&source->nic->lock);
	return rule ? 0 : -ENOENT;
}

static int source_callback(enum tc_setup_type type, void *data, void *cb_priv)
{
	struct flow_cls_offload *cls = data;

	if (type != TC_SETUP_CLSFLOWER)
		return -EOPNOTSUPP;
	switch (cls->command) {
	case FLOW_CLS_REPLACE:
		return add_rule(cb_priv, cls);
	case FLOW_CLS_DESTROY:
		return delete_rule(cb_priv, cls);
	case FLOW_CLS_STATS:
		return rule_stats(cb_priv, cls);
	default:
		return -EOPNOTSUPP;
	}
}

int simnic_setup_tc(struct net_device *dev, enum tc_setup_type type, void *data)
{
	struct simnic_port *port = *(struct simnic_port **)netdev_priv(dev);
	struct flow_block_offload *block = data;
	int err;

	if (type != TC_SETUP_BLOCK)
		return -EOPNOTSUPP;
	block->unlocked_driver_cb = true;
	err = flow_block_cb_setup_simple(block, &port_blocks, source_callback, &port->source, &port->source, true);
	if (!err)
		WRITE_ONCE(port->source.bound, block->command == FLOW_BLOCK_BIND);
	/* A port without a block has an empty table: what was lost goes, too. */
	if (!err && block->command == FLOW_BLOCK_UNBIND)
		simnic_source_forget_lost(&port->source);
	return err;
}

static struct simnic_source *find_tunnel(struct simnic *nic, const struct net_device *dev)
{
	struct simnic_source *source;

	list_for_each_entry(source, &nic->tunnels, list)
		if (source->ifindex == dev->ifindex)
			return source;
	return NULL;
}

static struct simnic_source *tunnel_source(struct simnic *nic, struct net_device *dev)
{
	struct simnic_source *source = kzalloc(sizeof(*source), GFP_KERNEL);

	if (!source)
		return NULL;
	if (simnic_source_init(source, nic, dev)) {
		kfree(source);
		return NULL;
	}
	source->bound = true;
	if (netif_is_vxlan(dev)) {
		const struct vxlan_dev *vxlan = netdev_priv(dev);

		source->kind = SIMNIC_VXLAN;
		source->udp_port = vxlan->cfg.dst_port;
		source->gbp = vxlan->cfg.flags & VXLAN_F_GBP;
	} else {
		source->kind = SIMNIC_GENEVE;
		source->udp_port = htons(GENEVE_UDP_PORT);
	}
	return source;
}

static void tunnel_free(struct work_struct *work)
{
	struct simnic_source *source = container_of(to_rcu_work(work), struct simnic_source, work);

	rhashtable_destroy(&source->by_cookie);
	kfree(source);
}

/* The kernel has deleted its rules; what is left was lost. */
void simnic_release_indirect(void *cb_priv)
{
	struct simnic_source *source = cb_priv;

	simnic_source_flush(source);
	mutex_lock(&source->nic->lock);
	list_del_rcu(&source->list);
	mutex_unlock(&source->nic->lock);
	INIT_RCU_WORK(&source->work, tunnel_free);
	queue_rcu_work(simnic_wq, &source->work);
}

static int bind_tunnel(struct simnic *nic, struct net_device *dev, struct Qdisc *sch, struct flow_block_offload *block,
		       void *data, void (*cleanup)(struct flow_block_cb *block_cb))
{
	struct simnic_source *source;
	struct flow_block_cb *block_cb;

	if (find_tunnel(nic, dev))
		return -EBUSY;
	source = tunnel_source(nic, dev);
	if (!source)
		return -ENOMEM;
	block_cb = flow_indr_block_cb_alloc(source_callback, source, source, simnic_release_indirect, block, dev, sch,
					    data, nic, cleanup);
	if (IS_ERR(block_cb)) {
		rhashtable_destroy(&source->by_cookie);
		kfree(source);
		return PTR_ERR(block_cb);
	}
	mutex_lock(&nic->lock);
	list_add_tail_rcu(&source->list, &nic->tunnels);
	mutex_unlock(&nic->lock);
	block->unlocked_driver_cb = true;
	flow_block_cb_add(block_cb, block);
	list_add_tail(&block_cb->driver_list, &tunnel_blocks);
	return 0;
}

static int unbind_tunnel(struct simnic *nic, struct net_device *dev, struct flow_block_offload *block)
{
	struct simnic_source *source = find_tunnel(nic, dev);
	struct flow_block_cb *block_cb;

	block_cb = source ? flow_block_cb_lookup(block->block, source_callback, source) : NULL;
	if (!block_cb)
		return -ENOENT;
	flow_indr_block_cb_remove(block_cb, block);
	list_del(&block_cb->driver_list);
	block->unlocked_driver_cb = true;
	return 0;
}

/* Whether who asks does so for the NIC's namespace. Actions do not say whose they are. */
static bool same_namespace(struct simnic *nic)
{
	return current->flags & (PF_KTHREAD | PF_WQ_WORKER) || !current->nsproxy || net_eq(current->nsproxy->net_ns, nic->net);
}

int simnic_setup_indirect(struct net_device *dev, struct Qdisc *sch, void *cb_priv, enum tc_setup_type type,
			  void *type_data, void *data, void (*cleanup)(struct flow_block_cb *block_cb))
{
	struct flow_block_offload *block = type_data;
	struct simnic *nic = cb_priv;

	if (!dev)
		return type == TC_SETUP_ACT && same_namespace(nic) ? simnic_police_action(nic, data) : -EOPNOTSUPP;
	if (type != TC_SETUP_BLOCK || !net_eq(dev_net(dev), nic->net) || (!netif_is_vxlan(dev) && !netif_is_geneve(dev)) ||
	    block->binder_type != FLOW_BLOCK_BINDER_TYPE_CLSACT_INGRESS)
		return -EOPNOTSUPP;
	switch (block->command) {
	case FLOW_BLOCK_BIND:
		return bind_tunnel(nic, dev, sch, block, data, cleanup);
	case FLOW_BLOCK_UNBIND:
		return unbind_tunnel(nic, dev, block);
	default:
		return -EOPNOTSUPP;
	}
}
