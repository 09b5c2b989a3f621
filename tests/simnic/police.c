// SPDX-License-Identifier: GPL-2.0
/* Policers: token buckets, shared by all rules that name one index. */
#include "simnic.h"

static void settings(struct simnic_policer *policer, const struct flow_action_entry *entry)
{
	spin_lock_bh(&policer->lock);
	if (policer->rate != entry->police.rate_bytes_ps || policer->burst != entry->police.burst ||
	    policer->rate_pkt != entry->police.rate_pkt_ps || policer->burst_pkt != entry->police.burst_pkt) {
		policer->rate = entry->police.rate_bytes_ps;
		policer->burst = max_t(u64, entry->police.burst, 1);
		policer->rate_pkt = entry->police.rate_pkt_ps;
		policer->burst_pkt = max_t(u64, entry->police.burst_pkt, 1);
		policer->tokens = policer->burst * NSEC_PER_SEC;
		policer->tokens_pkt = policer->burst_pkt * NSEC_PER_SEC;
		policer->filled = ktime_get_ns();
	}
	spin_unlock_bh(&policer->lock);
}

static struct simnic_policer *find(struct simnic *nic, u32 index)
{
	struct simnic_policer *policer;

	list_for_each_entry(policer, &nic->policers, list)
		if (policer->index == index)
			return policer;
	return NULL;
}

/* Under nic->lock: the policer of an index, made or set anew. */
struct simnic_policer *simnic_policer_get(struct simnic *nic, const struct flow_action_entry *entry)
{
	struct simnic_policer *policer = find(nic, entry->hw_index);

	if (!policer) {
		policer = kzalloc(sizeof(*policer), GFP_KERNEL);
		if (!policer)
			return NULL;
		policer->nic = nic;
		policer->index = entry->hw_index;
		spin_lock_init(&policer->lock);
		list_add_tail(&policer->list, &nic->policers);
	}
	settings(policer, entry);
	policer->users++;
	return policer;
}

/* Under nic->lock. */
void simnic_policer_put(struct simnic_policer *policer)
{
	if (--policer->users)
		return;
	list_del(&policer->list);
	kfree_rcu(policer, rcu);
}

static u64 fill(u64 tokens, u64 rate, u64 burst, u64 ns)
{
	u64 most = burst * NSEC_PER_SEC;

	/* Whole seconds apart: nothing can overflow so. */
	if (ns >= NSEC_PER_SEC)
		tokens = min(tokens + min(rate * min_t(u64, ns / NSEC_PER_SEC, 3600), burst) * NSEC_PER_SEC, most);
	tokens += rate * (ns % NSEC_PER_SEC);
	return min(tokens, most);
}

/* Whether a packet of so many bytes may pass. */
bool simnic_police(struct simnic_policer *policer, unsigned int bytes)
{
	u64 need = (u64)bytes * NSEC_PER_SEC, now, ns;
	bool pass = true;

	spin_lock_bh(&policer->lock);
	now = ktime_get_ns();
	ns = now - policer->filled;
	policer->filled = now;
	if (policer->rate) {
		policer->tokens = fill(policer->tokens, policer->rate, policer->burst, ns);
		pass = policer->tokens >= need;
	}
	if (policer->rate_pkt) {
		policer->tokens_pkt = fill(policer->tokens_pkt, policer->rate_pkt, policer->burst_pkt, ns);
		pass = pass && policer->tokens_pkt >= NSEC_PER_SEC;
	}
	if (pass && policer->rate)
		policer->tokens -= need;
	if (pass && policer->rate_pkt)
		policer->tokens_pkt -= NSEC_PER_SEC;
	spin_unlock_bh(&policer->lock);
	simnic_hit(&policer->stats, bytes);
	if (!pass)
		atomic64_inc(&policer->stats.drops);
	return pass;
}

static bool polices(const struct flow_offload_action *act)
{
	return act->action.num_entries == 1 && act->action.entries[0].id == FLOW_ACTION_POLICE;
}

/* A request for an action itself, not for a rule. Of all actions only policers live on their own. */
int simnic_police_action(struct simnic *nic, struct flow_offload_action *act)
{
	struct simnic_policer *policer;
	int err = 0;

	if (act->id != FLOW_ACTION_POLICE)
		return -EOPNOTSUPP;
	if (act->command == FLOW_ACT_REPLACE) {
		if (!polices(act) || (nic->refuse_actions[0] & BIT(FLOW_ACTION_POLICE)))
			return -EOPNOTSUPP;
		err = simnic_command(nic, READ_ONCE(nic->delay_us), act->extack);
		if (err)
			return err;
	}
	mutex_lock(&nic->lock);
	policer = find(nic, act->command == FLOW_ACT_REPLACE ? act->action.entries[0].hw_index : act->index);
	switch (act->command) {
	case FLOW_ACT_REPLACE:
		if (policer && policer->standalone) {
			settings(policer, &act->action.entries[0]);
			break;
		}
		policer = simnic_policer_get(nic, &act->action.entries[0]);
		if (policer)
			policer->standalone = true;
		else
			err = -ENOMEM;
		break;
	case FLOW_ACT_DESTROY:
		if (policer && policer->standalone) {
			policer->standalone = false;
			simnic_policer_put(policer);
		} else {
			err = -ENOENT;
		}
		break;
	case FLOW_ACT_STATS:
		if (policer && policer->standalone)
			simnic_tell(nic, &policer->stats, &act->stats);
		else
			err = -ENOENT;
		break;
	default:
		err = -EOPNOTSUPP;
	}
	mutex_unlock(&nic->lock);
	return err;
}
