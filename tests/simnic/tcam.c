// SPDX-License-Identifier: GPL-2.0
/* The rules as the hardware holds them: by source and chain, in groups of one priority and mask, hashed by masked key. */
#include "simnic.h"

#include <linux/hash.h>
#include <linux/netlink.h>

struct simnic_key_field {
	enum flow_dissector_key_id id;
	unsigned short offset, size;
};

#define FIELD(ID, member) \
	{ FLOW_DISSECTOR_KEY_##ID, offsetof(struct simnic_key, member), sizeof(((struct simnic_key *)0)->member) }

static const struct simnic_key_field fields[] = {
	FIELD(META, meta),
	FIELD(CONTROL, control),
	FIELD(BASIC, basic),
	FIELD(ETH_ADDRS, eth),
	FIELD(VLAN, vlan),
	FIELD(CVLAN, cvlan),
	FIELD(IPV4_ADDRS, ipv4),
	FIELD(IPV6_ADDRS, ipv6),
	FIELD(PORTS, tp),
	FIELD(TCP, tcp),
	FIELD(IP, ip),
	FIELD(ICMP, icmp),
	FIELD(ARP, arp),
	FIELD(MPLS, mpls),
	/* Those that no frame tells are at the end. */
	FIELD(CT, ct),
	FIELD(ENC_CONTROL, enc_control),
	FIELD(ENC_KEYID, enc_key_id),
	FIELD(ENC_IPV4_ADDRS, enc_ipv4),
	FIELD(ENC_IPV6_ADDRS, enc_ipv6),
	FIELD(ENC_PORTS, enc_tp),
	FIELD(ENC_IP, enc_ip),
	FIELD(ENC_OPTS, enc_opts),
};
#define N_FRAME_FIELDS 14

static struct flow_dissector dissector;
static u32 known_keys;

static const struct rhashtable_params cookie_params = {
	.head_offset = offsetof(struct simnic_rule, by_cookie),
	.key_offset = offsetof(struct simnic_rule, cookie),
	.key_len = sizeof(unsigned long),
	.automatic_shrinking = true,
};

void simnic_tcam_init(void)
{
	struct flow_dissector_key keys[N_FRAME_FIELDS];
	unsigned int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		known_keys |= BIT(fields[i].id);
		if (i >= N_FRAME_FIELDS || fields[i].id == FLOW_DISSECTOR_KEY_META)
			continue;
		keys[n].key_id = fields[i].id;
		keys[n++].offset = fields[i].offset;
	}
	skb_flow_dissector_init(&dissector, keys, n);
}

/* Reads a frame (from its network header on) as the kernel's flower does. */
void simnic_tcam_dissect(struct sk_buff *skb, struct simnic_key *key)
{
	key->basic.n_proto = skb_protocol(skb, false);
	skb_flow_dissect(skb, &dissector, key, FLOW_DISSECTOR_F_STOP_BEFORE_ENCAP);
}

int simnic_tcam_supports(struct simnic *nic, const struct flow_match *match, struct netlink_ext_ack *extack)
{
	u32 used = match->dissector->used_keys;

	if (used & ~known_keys) {
		NL_SET_ERR_MSG_MOD(extack, "a field of the match is not supported");
		return -EOPNOTSUPP;
	}
	if (used & READ_ONCE(nic->refuse_keys)) {
		NL_SET_ERR_MSG_MOD(extack, "firmware level support is missing for a field of the match");
		return -EOPNOTSUPP;
	}
	return 0;
}

int simnic_source_init(struct simnic_source *source, struct simnic *nic, const struct net_device *dev)
{
	unsigned int i;

	source->nic = nic;
	source->ifindex = dev->ifindex;
	strscpy(source->name, dev->name, sizeof(source->name));
	INIT_LIST_HEAD(&source->list);
	INIT_LIST_HEAD(&source->rules);
	for (i = 0; i < ARRAY_SIZE(source->chains); i++)
		INIT_HLIST_HEAD(&source->chains[i]);
	return rhashtable_init(&source->by_cookie, &cookie_params);
}

/* Away with every rule and table; packets may still look. */
void simnic_source_flush(struct simnic_source *source)
{
	struct simnic_rule *rule, *next;

	mutex_lock(&source->nic->lock);
	list_for_each_entry_safe(rule, next, &source->rules, list)
		simnic_tcam_remove(rule);
	mutex_unlock(&source->nic->lock);
}

/* Away with the rules that the kernel deleted and the hardware did not. */
void simnic_source_forget_lost(struct simnic_source *source)
{
	struct simnic_rule *rule, *next;

	mutex_lock(&source->nic->lock);
	list_for_each_entry_safe(rule, next, &source->rules, list)
		if (rule->lost)
			simnic_tcam_remove(rule);
	mutex_unlock(&source->nic->lock);
}

static struct simnic_chain *find_chain(struct simnic_source *source, u32 index)
{
	struct hlist_head *head = &source->chains[hash_32(index, SIMNIC_CHAIN_BITS)];
	struct simnic_chain *chain;

	hlist_for_each_entry_rcu(chain, head, node, lockdep_is_held(&source->nic->lock))
		if (chain->index == index)
			return chain;
	return NULL;
}

static struct simnic_chain *add_chain(struct simnic_source *source, u32 index)
{
	struct simnic_chain *chain = kzalloc(sizeof(*chain), GFP_KERNEL);

	if (!chain)
		return NULL;
	chain->index = index;
	INIT_LIST_HEAD(&chain->groups);
	hlist_add_head_rcu(&chain->node, &source->chains[hash_32(index, SIMNIC_CHAIN_BITS)]);
	return chain;
}

static void group_free(struct work_struct *work)
{
	struct simnic_group *group = container_of(to_rcu_work(work), struct simnic_group, work);

	rhltable_destroy(&group->rules);
	kfree(group);
}

/* The part of the mask that is not all zeros, in words. */
static void mask_range(struct simnic_group *group)
{
	const u64 *words = (const u64 *)&group->mask;
	unsigned int n = sizeof(group->mask) / sizeof(u64), first = 0, last = n;

	BUILD_BUG_ON(sizeof(struct simnic_key) % sizeof(u64));
	while (first < n - 1 && !words[first])
		first++;
	while (last > first + 1 && !words[last - 1])
		last--;
	group->from = first * sizeof(u64);
	group->len = (last - first) * sizeof(u64);
}

static struct simnic_group *find_group(struct simnic_chain *chain, u32 prio, __be16 protocol,
				       const struct simnic_key *mask)
{
	struct simnic_group *group, *after = NULL;
	int err;

	list_for_each_entry(group, &chain->groups, list) {
		if (group->prio > prio)
			break;
		if (group->prio == prio && group->protocol == protocol && !memcmp(&group->mask, mask, sizeof(*mask)))
			return group;
		after = group;
	}
	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group)
		return NULL;
	group->chain = chain;
	group->prio = prio;
	group->protocol = protocol;
	group->mask = *mask;
	mask_range(group);
	group->params.head_offset = offsetof(struct simnic_rule, by_key);
	group->params.key_offset = offsetof(struct simnic_rule, key);
	group->params.key_len = group->len;
	group->params.automatic_shrinking = true;
	err = rhltable_init(&group->rules, &group->params);
	if (err) {
		kfree(group);
		return NULL;
	}
	list_add_rcu(&group->list, after ? &after->list : &chain->groups);
	return group;
}

static void drop_if_empty(struct simnic_group *group)
{
	struct simnic_chain *chain = group->chain;

	if (group->count)
		return;
	list_del_rcu(&group->list);
	INIT_RCU_WORK(&group->work, group_free);
	queue_rcu_work(simnic_wq, &group->work);
	if (list_empty(&chain->groups)) {
		hlist_del_rcu(&chain->node);
		kfree_rcu(chain, rcu);
	}
}

static void apply_mask(u8 *to, const struct simnic_key *key, const struct simnic_group *group)
{
	const u64 *k = (const u64 *)((const u8 *)key + group->from);
	const u64 *m = (const u64 *)((const u8 *)&group->mask + group->from);
	u64 *t = (u64 *)to;
	unsigned int i;

	for (i = 0; i < group->len / sizeof(u64); i++)
		t[i] = k[i] & m[i];
}

struct simnic_rule *simnic_tcam_find(struct simnic_source *source, unsigned long cookie)
{
	return rhashtable_lookup_fast(&source->by_cookie, &cookie, cookie_params);
}

static struct simnic_rule *rule_alloc(struct simnic_source *source, struct flow_cls_offload *cls,
				      struct simnic_group *group, const struct simnic_key *key)
{
	struct simnic_rule *rule = kzalloc(sizeof(*rule) + group->len, GFP_KERNEL);

	if (!rule)
		return NULL;
	rule->cookie = cls->cookie;
	rule->source = source;
	rule->group = group;
	rule->stats.used = jiffies;
	apply_mask(rule->key, key, group);
	return rule;
}

/* Under nic->lock. Takes `actions` if it succeeds. */
int simnic_tcam_insert(struct simnic_source *source, struct flow_cls_offload *cls, struct simnic_action *actions,
		       unsigned int n_actions, bool partial)
{
	const struct flow_match *match = &cls->rule->match;
	struct simnic_chain *chain;
	struct simnic_group *group;
	struct simnic_rule *rule;
	struct {
		struct simnic_key key, mask;
	} *read;
	unsigned int i;
	int err = -ENOMEM;

	read = kzalloc(sizeof(*read), GFP_KERNEL);
	if (!read)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		unsigned int from;

		if (!dissector_uses_key(match->dissector, fields[i].id))
			continue;
		from = match->dissector->offset[fields[i].id];
		memcpy((u8 *)&read->key + fields[i].offset, (u8 *)match->key + from, fields[i].size);
		memcpy((u8 *)&read->mask + fields[i].offset, (u8 *)match->mask + from, fields[i].size);
	}
	chain = find_chain(source, cls->common.chain_index) ?: add_chain(source, cls->common.chain_index);
	group = chain ? find_group(chain, cls->common.prio, cls->common.protocol, &read->mask) : NULL;
	rule = group ? rule_alloc(source, cls, group, &read->key) : NULL;
	if (!rule)
		goto out;
	rule->actions = actions;
	rule->n_actions = n_actions;
	rule->partial = partial;
	err = rhashtable_lookup_insert_fast(&source->by_cookie, &rule->by_cookie, cookie_params);
	if (!err) {
		err = rhltable_insert(&group->rules, &rule->by_key, group->params);
		if (err)
			rhashtable_remove_fast(&source->by_cookie, &rule->by_cookie, cookie_params);
	}
	if (err) {
		kfree(rule);
		goto out;
	}
	group->count++;
	list_add_tail(&rule->list, &source->rules);
	atomic_inc(&source->nic->n_rules);
out:
	kfree(read);
	if (err && group)
		drop_if_empty(group);
	else if (err && chain && list_empty(&chain->groups)) {
		hlist_del_rcu(&chain->node);
		kfree_rcu(chain, rcu);
	}
	return err;
}

static void rule_free(struct rcu_head *head)
{
	struct simnic_rule *rule = container_of(head, struct simnic_rule, rcu);

	simnic_actions_free(rule->actions, rule->n_actions);
	kfree(rule);
}

/* Under nic->lock. */
void simnic_tcam_remove(struct simnic_rule *rule)
{
	struct simnic_group *group = rule->group;

	if (!rule->lost)
		rhashtable_remove_fast(&rule->source->by_cookie, &rule->by_cookie, cookie_params);
	rhltable_remove(&group->rules, &rule->by_key, group->params);
	list_del(&rule->list);
	atomic_dec(&rule->source->nic->n_rules);
	group->count--;
	drop_if_empty(group);
	simnic_actions_release(rule->actions, rule->n_actions, !rule->lost);
	call_rcu(&rule->rcu, rule_free);
}

/* Under nic->lock. */
void simnic_tcam_lose(struct simnic_rule *rule)
{
	unsigned int i;

	rhashtable_remove_fast(&rule->source->by_cookie, &rule->by_cookie, cookie_params);
	rule->lost = true;
	for (i = 0; i < rule->n_actions; i++)
		if (rule->actions[i].id == FLOW_ACTION_CT && rule->actions[i].ct.zone)
			simnic_zone_unuse(rule->actions[i].ct.zone);
}

/* The rule that a packet hits: of the lowest priority's number, then of the oldest mask, then the youngest. */
struct simnic_rule *simnic_tcam_lookup(struct simnic_source *source, u32 index, __be16 protocol,
				       const struct simnic_key *key)
{
	struct simnic_chain *chain = find_chain(source, index);
	u64 masked[sizeof(struct simnic_key) / sizeof(u64)];
	struct simnic_group *group;
	struct rhlist_head *found;

	if (!chain)
		return NULL;
	list_for_each_entry_rcu(group, &chain->groups, list) {
		if (group->protocol != htons(ETH_P_ALL) && group->protocol != protocol)
			continue;
		apply_mask((u8 *)masked, key, group);
		found = rhltable_lookup(&group->rules, masked, group->params);
		if (found)
			return container_of(found, struct simnic_rule, by_key);
	}
	return NULL;
}
