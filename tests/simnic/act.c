// SPDX-License-Identifier: GPL-2.0
/*
 * A packet's way through the rules. What it does (counts, copies sent) is collected and takes effect at the end: a packet
 * that finds no rule in a later chain, or no connection, goes up to the kernel as it came in, as if the NIC had not
 * looked at it; software then starts over in chain 0.
 */
#include "simnic.h"

#include <linux/ipv6.h>
#include <linux/random.h>
#include <net/psample.h>

enum verdict { DONE, JUMP, RESTART, TRAP, BROKEN };

struct simnic_run {
	struct simnic *nic;
	struct simnic_port *in;
	struct simnic_source *source;
	struct sk_buff *skb; /* Gone when sent or dropped. */
	struct sk_buff *original;
	unsigned int outer_len; /* Cut off in front of skb; still there in original. */
	struct metadata_dst *tunnel;
	u32 chain;
	unsigned int n_hits;
	struct {
		struct simnic_stats *stats;
		unsigned int bytes;
	} hits[SIMNIC_MAX_HITS];
	struct sk_buff_head out;
	bool has_outer;
	struct flow_dissector_key_ct ct;
	struct simnic_key key;
	struct simnic_key outer; /* Only the fields of outer headers. */
};

/* What is noted on a packet that waits to be sent. */
struct simnic_note {
	const struct simnic_action *action;
	struct metadata_dst *tunnel;
	int ptype;
};

static struct simnic_note *note_of(struct sk_buff *skb)
{
	BUILD_BUG_ON(sizeof(struct simnic_note) > sizeof(skb->cb));
	return (struct simnic_note *)skb->cb;
}

static unsigned int frame_length(const struct sk_buff *skb)
{
	return skb->len + (skb_vlan_tag_present(skb) ? VLAN_HLEN : 0);
}

static __be16 frame_type(struct sk_buff *skb)
{
	const struct ethhdr *eth = (const void *)skb->data;

	return eth_proto_is_802_3(eth->h_proto) ? eth->h_proto : htons(ETH_P_802_2);
}

/* Makes the frame that starts at skb->data the one to work on. */
static void view(struct sk_buff *skb)
{
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ETH_HLEN);
	skb->mac_len = ETH_HLEN;
	skb->protocol = frame_type(skb);
}

static bool hit(struct simnic_run *run, struct simnic_stats *stats)
{
	if (run->n_hits == SIMNIC_MAX_HITS)
		return false;
	run->hits[run->n_hits].stats = stats;
	run->hits[run->n_hits++].bytes = frame_length(run->skb);
	return true;
}

/* Matches what the packet is now in the chain that it is in. */
static struct simnic_rule *lookup(struct simnic_run *run)
{
	struct simnic_key *key = &run->key;

	memset(key, 0, sizeof(*key));
	key->meta.ingress_ifindex = run->source->ifindex;
	if (run->has_outer) {
		key->enc_control = run->outer.enc_control;
		key->enc_key_id = run->outer.enc_key_id;
		key->enc_ipv6 = run->outer.enc_ipv6;
		key->enc_tp = run->outer.enc_tp;
		key->enc_ip = run->outer.enc_ip;
		key->enc_opts = run->outer.enc_opts;
	}
	key->ct = run->ct;
	simnic_tcam_dissect(run->skb, key);
	return simnic_tcam_lookup(run->source, run->chain, skb_protocol(run->skb, false), key);
}

/* Keeps `skb` to be sent as `action` says. */
static void keep(struct simnic_run *run, struct sk_buff *skb, const struct simnic_action *action)
{
	struct simnic_note *note = note_of(skb);

	memset(skb->cb, 0, sizeof(skb->cb));
	note->action = action;
	note->tunnel = run->tunnel;
	note->ptype = skb->pkt_type;
	__skb_queue_tail(&run->out, skb);
}

static enum verdict output(struct simnic_run *run, const struct simnic_action *action)
{
	struct sk_buff *copy;

	if (action->id == FLOW_ACTION_REDIRECT || action->id == FLOW_ACTION_REDIRECT_INGRESS) {
		keep(run, run->skb, action);
		run->skb = NULL;
		return DONE;
	}
	copy = skb_clone(run->skb, GFP_ATOMIC);
	if (copy)
		keep(run, copy, action);
	return JUMP;
}

/* What software would see beside a packet from a tunnel, for those who look at samples. */
static void attach_outer(struct simnic_run *run, struct sk_buff *skb)
{
	const struct simnic_key *outer = &run->outer;
	__be64 id = cpu_to_be64(be32_to_cpu(outer->enc_key_id.keyid));
	struct metadata_dst *dst;

	if (run->tunnel && dst_hold_safe(&run->tunnel->dst)) {
		skb_dst_set(skb, &run->tunnel->dst);
		return;
	}
	if (!run->has_outer)
		return;
	if (outer->enc_control.addr_type == FLOW_DISSECTOR_KEY_IPV4_ADDRS)
		dst = __ip_tun_set_dst(outer->enc_ipv4.src, outer->enc_ipv4.dst, outer->enc_ip.tos, outer->enc_ip.ttl,
				       outer->enc_tp.dst, TUNNEL_KEY, id, outer->enc_opts.len);
	else
		dst = __ipv6_tun_set_dst(&outer->enc_ipv6.src, &outer->enc_ipv6.dst, outer->enc_ip.tos,
					 outer->enc_ip.ttl, outer->enc_tp.dst, 0, TUNNEL_KEY, id, outer->enc_opts.len);
	if (!dst)
		return;
	dst->u.tun_info.key.tp_src = outer->enc_tp.src;
	ip_tunnel_info_opts_set(&dst->u.tun_info, outer->enc_opts.data, outer->enc_opts.len,
				outer->enc_opts.dst_opt_type);
	skb_dst_set(skb, &dst->dst);
}

static void sample(struct simnic_run *run, const struct simnic_action *action)
{
	struct sk_buff *copy;

	if (!action->sample.rate || prandom_u32_max(action->sample.rate))
		return;
	copy = skb_clone(run->skb, GFP_ATOMIC);
	if (!copy)
		return;
	skb_dst_drop(copy);
	attach_outer(run, copy);
	keep(run, copy, action);
}

static enum verdict police(struct simnic_run *run, struct simnic_rule *rule, const struct simnic_action *action)
{
	enum flow_action_id then = action->police.conform;

	if (!simnic_police(action->police.policer, frame_length(run->skb))) {
		then = action->police.exceed;
		if (then == FLOW_ACTION_DROP) {
			COUNT(run->nic, policed);
			atomic64_inc(&rule->stats.drops);
		}
	}
	if (then == FLOW_ACTION_DROP) {
		kfree_skb(run->skb);
		run->skb = NULL;
		return DONE;
	}
	return then == FLOW_ACTION_ACCEPT ? TRAP : JUMP;
}

static enum verdict connect(struct simnic_run *run, const struct simnic_action *action)
{
	struct simnic_conn *conn;

	if (!action->ct.zone) {
		memset(&run->ct, 0, sizeof(run->ct));
		return JUMP;
	}
	conn = simnic_conn_lookup(action->ct.zone, &run->key);
	if (!conn) {
		COUNT(run->nic, ct_misses);
		return RESTART;
	}
	if (!hit(run, &conn->stats))
		return BROKEN;
	COUNT(run->nic, ct_hits);
	run->ct.ct_state = conn->ct_state;
	run->ct.ct_zone = action->ct.zone->id;
	run->ct.ct_mark = conn->mark;
	memcpy(run->ct.ct_labels, conn->labels, sizeof(run->ct.ct_labels));
	return simnic_edit_nat(run->skb, &conn->key, &conn->becomes) ? BROKEN : JUMP;
}

/* One action: DONE if the packet is no more, JUMP to go on with the next. */
static enum verdict act(struct simnic_run *run, struct simnic_rule *rule, const struct simnic_action *action)
{
	switch (action->id) {
	case FLOW_ACTION_ACCEPT:
	case FLOW_ACTION_TRAP:
		return TRAP;
	case FLOW_ACTION_DROP:
		COUNT(run->nic, dropped);
		kfree_skb(run->skb);
		run->skb = NULL;
		return DONE;
	case FLOW_ACTION_REDIRECT:
	case FLOW_ACTION_REDIRECT_INGRESS:
	case FLOW_ACTION_MIRRED:
	case FLOW_ACTION_MIRRED_INGRESS:
		return output(run, action);
	case FLOW_ACTION_TUNNEL_ENCAP:
		run->tunnel = action->tunnel;
		return JUMP;
	case FLOW_ACTION_TUNNEL_DECAP:
		run->tunnel = NULL;
		run->has_outer = false;
		return JUMP;
	case FLOW_ACTION_MARK:
		run->skb->mark = action->mark;
		return JUMP;
	case FLOW_ACTION_PRIORITY:
		run->skb->priority = action->priority;
		return JUMP;
	case FLOW_ACTION_PTYPE:
		run->skb->pkt_type = action->ptype;
		return JUMP;
	case FLOW_ACTION_PIPE:
		return JUMP;
	case FLOW_ACTION_SAMPLE:
		sample(run, action);
		return JUMP;
	case FLOW_ACTION_POLICE:
		return police(run, rule, action);
	case FLOW_ACTION_CT:
		return connect(run, action);
	default:
		return simnic_edit(run->skb, action) ? BROKEN : JUMP;
	}
}

/* All actions of a rule: JUMP to look up the chain that run->chain names then. */
static enum verdict act_all(struct simnic_run *run, struct simnic_rule *rule)
{
	enum verdict verdict;
	unsigned int i;

	if (!hit(run, &rule->stats))
		return BROKEN;
	for (i = 0; i < rule->n_actions; i++) {
		const struct simnic_action *action = &rule->actions[i];

		if (action->id == FLOW_ACTION_GOTO) {
			run->chain = action->chain;
			return JUMP;
		}
		verdict = act(run, rule, action);
		if (verdict != JUMP)
			return verdict;
	}
	/* Checked when the rule came: it does not end so. */
	return BROKEN;
}

static void send(struct simnic_run *run, struct sk_buff *skb)
{
	const struct simnic_note note = *note_of(skb);
	const struct simnic_action *action = note.action;
	struct net_device *dev;

	memset(skb->cb, 0, sizeof(skb->cb));
	if (action->id == FLOW_ACTION_SAMPLE) {
		struct psample_metadata md = { .in_ifindex = run->source->ifindex };

		md.trunc_size = action->sample.trunc_size ?: skb->len;
		psample_sample_packet(action->sample.group, skb, action->sample.rate, &md);
		COUNT(run->nic, sampled);
		consume_skb(skb);
		return;
	}
	COUNT(run->nic, forwarded);
	switch (action->to.kind) {
	case SIMNIC_TO_PORT:
		simnic_send(action->to.port, skb);
		return;
	case SIMNIC_TO_TUNNEL:
		simnic_encapsulate(run->nic, skb, action, note.tunnel);
		return;
	case SIMNIC_TO_STACK:
		dev = dev_get_by_index_rcu(run->nic->net, action->to.ifindex);
		if (!dev || !(dev->flags & IFF_UP)) {
			COUNT(run->nic, broken);
			kfree_skb(skb);
			return;
		}
		skb->protocol = eth_type_trans(skb, dev);
		if (note.ptype == PACKET_HOST)
			skb->pkt_type = PACKET_HOST;
		netif_rx(skb);
		return;
	}
}

/* What the packet did takes effect. */
static void commit(struct simnic_run *run)
{
	struct sk_buff *skb;
	unsigned int i;

	for (i = 0; i < run->n_hits; i++)
		simnic_hit(run->hits[i].stats, run->hits[i].bytes);
	while ((skb = __skb_dequeue(&run->out)))
		send(run, skb);
}

/* The frame goes up as it came. */
static void give_up(struct simnic_run *run)
{
	struct sk_buff *skb = run->original ?: run->skb;

	if (run->original)
		kfree_skb(run->skb);
	run->original = NULL;
	run->skb = NULL;
	if (run->outer_len) {
		__skb_push(skb, run->outer_len);
		view(skb);
	}
	simnic_receive(run->in->dev, skb);
}

static enum verdict follow(struct simnic_run *run, struct simnic_rule *rule)
{
	enum verdict verdict;

	while (true) {
		if (rule->partial && !run->original) {
			run->original = skb_clone(run->skb, GFP_ATOMIC);
			if (!run->original)
				return BROKEN;
		}
		if (run->chain == 0 && run->n_hits == 0) {
			if (simnic_untag(&run->skb))
				return BROKEN;
			if (run->outer_len) {
				COUNT(run->nic, decapsulated);
				simnic_decapsulated(run->skb, &run->outer, run->outer_len);
			}
		}
		verdict = act_all(run, rule);
		if (verdict != JUMP)
			return verdict;
		rule = lookup(run);
		if (!rule)
			return RESTART;
	}
}

/* Rules for frames of a tunnel come first, then those for frames of the port. */
static struct simnic_rule *first_rule(struct simnic_run *run)
{
	struct sk_buff *skb = run->skb;
	struct simnic_rule *rule;
	unsigned int length = 0;

	run->source = run->in->index == 0 ? simnic_outer(run->nic, skb, &run->outer, &length) : NULL;
	if (run->source) {
		__skb_pull(skb, length);
		view(skb);
		run->has_outer = true;
		run->outer_len = length;
		rule = lookup(run);
		if (rule)
			return rule;
		__skb_push(skb, length);
		view(skb);
		run->has_outer = false;
		run->outer_len = 0;
	}
	run->source = &run->in->source;
	return lookup(run);
}

/* A frame that came in at a port; it starts at the MAC header. Under RCU, bottom halves off. */
void simnic_run(struct simnic_port *in, struct sk_buff *skb)
{
	struct simnic *nic = in->nic;
	struct simnic_run *run;
	struct simnic_rule *rule;

	COUNT(nic, received);
	run = kzalloc(sizeof(*run), GFP_ATOMIC);
	if (!run || skb_is_gso(skb) || skb_linearize(skb) || skb->len < ETH_HLEN ||
	    (skb->ip_summed == CHECKSUM_PARTIAL && skb_checksum_help(skb))) {
		COUNT(nic, broken);
		kfree_skb(skb);
		kfree(run);
		return;
	}
	skb->ip_summed = CHECKSUM_NONE;
	skb->dev = in->dev;
	view(skb);
	run->nic = nic;
	run->in = in;
	run->skb = skb;
	__skb_queue_head_init(&run->out);
	rule = first_rule(run);
	if (!rule) {
		COUNT(nic, missed);
		give_up(run);
		goto out;
	}
	switch (follow(run, rule)) {
	case TRAP:
		COUNT(nic, trapped);
		commit(run);
		give_up(run);
		break;
	case RESTART:
		COUNT(nic, restarted);
		__skb_queue_purge(&run->out);
		give_up(run);
		break;
	case BROKEN:
		COUNT(nic, broken);
		__skb_queue_purge(&run->out);
		kfree_skb(run->skb);
		break;
	default:
		commit(run);
	}
	kfree_skb(run->original);
out:
	kfree(run);
}
