// SPDX-License-Identifier: GPL-2.0
/*
 * simnic/new, simnic/del      "NAME REPRESENTORS": makes a NIC in the writer's namespace; "NAME": removes one
 * simnic/NAME/...             one file a knob; rules, connections, policers, counters to read
 */
#include "simnic.h"

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

static struct dentry *root;

static int read_line(const char __user *from, size_t count, char *line, size_t size)
{
	if (count >= size)
		return -EINVAL;
	if (copy_from_user(line, from, count))
		return -EFAULT;
	line[count] = 0;
	return 0;
}

static ssize_t write_new(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	char line[64], name[IFNAMSIZ];
	struct simnic *nic;
	unsigned int reps;
	int err = read_line(from, count, line, sizeof(line));

	if (err)
		return err;
	if (sscanf(line, "%15s %u", name, &reps) != 2)
		return -EINVAL;
	nic = simnic_create(current->nsproxy->net_ns, name, reps);
	return IS_ERR(nic) ? PTR_ERR(nic) : count;
}

static ssize_t write_del(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	char line[64], name[IFNAMSIZ];
	int err = read_line(from, count, line, sizeof(line));

	if (err)
		return err;
	if (sscanf(line, "%15s", name) != 1)
		return -EINVAL;
	return simnic_remove(current->nsproxy->net_ns, name) ?: count;
}

static const struct file_operations new_ops = { .owner = THIS_MODULE, .open = simple_open, .write = write_new };
static const struct file_operations del_ops = { .owner = THIS_MODULE, .open = simple_open, .write = write_del };

static void show_stats(struct seq_file *s, const struct simnic_stats *stats)
{
	seq_printf(s, " packets %lld bytes %lld drops %lld", atomic64_read(&stats->packets), atomic64_read(&stats->bytes),
		   atomic64_read(&stats->drops));
}

static void show_source(struct seq_file *s, struct simnic_source *source)
{
	struct simnic_rule *rule;
	unsigned int i;

	list_for_each_entry(rule, &source->rules, list) {
		seq_printf(s, "%s chain %u prio %u", source->name, rule->group->chain->index, rule->group->prio);
		show_stats(s, &rule->stats);
		seq_puts(s, " actions");
		for (i = 0; i < rule->n_actions; i++)
			seq_printf(s, " %u", rule->actions[i].id);
		seq_puts(s, rule->lost ? " lost\n" : "\n");
	}
}

static int rules_show(struct seq_file *s, void *unused)
{
	struct simnic *nic = s->private;
	struct simnic_source *tunnel;
	unsigned int i;

	mutex_lock(&nic->lock);
	for (i = 0; i < nic->n_ports; i++)
		show_source(s, &nic->ports[i].source);
	list_for_each_entry(tunnel, &nic->tunnels, list)
		show_source(s, tunnel);
	mutex_unlock(&nic->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(rules);

static void show_conn(struct seq_file *s, const struct simnic_conn *conn)
{
	const struct simnic_conn_key *key = &conn->key;

	seq_printf(s, "zone %u proto %u", conn->zone->id, key->ip_proto);
	if (key->n_proto == htons(ETH_P_IP))
		seq_printf(s, " src %pI4 dst %pI4", key->src.s6_addr32, key->dst.s6_addr32);
	else
		seq_printf(s, " src %pI6c dst %pI6c", &key->src, &key->dst);
	seq_printf(s, " sport %u dport %u mark %u", ntohs(key->src_port), ntohs(key->dst_port), conn->mark);
	if (conn->ct_state & TCA_FLOWER_KEY_CT_FLAGS_REPLY)
		seq_puts(s, " reply");
	if (memcmp(key, &conn->becomes, sizeof(*key)))
		seq_puts(s, " nat");
	show_stats(s, &conn->stats);
	seq_puts(s, conn->lost ? " lost\n" : "\n");
}

static int connections_show(struct seq_file *s, void *unused)
{
	struct simnic *nic = s->private;
	struct simnic_zone *zone;
	struct simnic_conn *conn;

	mutex_lock(&nic->lock);
	list_for_each_entry(zone, &nic->zones, list) {
		mutex_lock(&zone->lock);
		list_for_each_entry(conn, &zone->conns, list)
			show_conn(s, conn);
		mutex_unlock(&zone->lock);
	}
	mutex_unlock(&nic->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(connections);

static int policers_show(struct seq_file *s, void *unused)
{
	struct simnic *nic = s->private;
	struct simnic_policer *policer;

	mutex_lock(&nic->lock);
	list_for_each_entry(policer, &nic->policers, list) {
		seq_printf(s, "index %u rate %llu burst %llu packet_rate %llu packet_burst %llu users %u", policer->index,
			   policer->rate, policer->burst, policer->rate_pkt, policer->burst_pkt, policer->users);
		show_stats(s, &policer->stats);
		seq_putc(s, '\n');
	}
	mutex_unlock(&nic->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(policers);

static const char *const counter_names[] = {
#define X(name) #name,
	SIMNIC_COUNTERS(X)
#undef X
};

static int counters_show(struct seq_file *s, void *unused)
{
	struct simnic *nic = s->private;
	unsigned int i;

	seq_printf(s, "rules %d\nconnections %d\n", atomic_read(&nic->n_rules), atomic_read(&nic->n_connections));
	for (i = 0; i < SIMNIC_N_COUNTERS; i++)
		seq_printf(s, "%s %lld\n", counter_names[i], atomic64_read(&nic->counters[i]));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

void simnic_debugfs_add(struct simnic *nic)
{
	struct dentry *dir = debugfs_create_dir(nic->name, root);

	nic->dir = dir;
#define X(name, start) debugfs_create_u32(#name, 0644, dir, &nic->name);
	SIMNIC_KNOBS(X)
#undef X
	debugfs_create_x32("refuse_keys", 0644, dir, &nic->refuse_keys);
	debugfs_create_x32("refuse_actions", 0644, dir, &nic->refuse_actions[0]);
	debugfs_create_x32("refuse_actions_32", 0644, dir, &nic->refuse_actions[1]);
	debugfs_create_file("rules", 0444, dir, nic, &rules_fops);
	debugfs_create_file("connections", 0444, dir, nic, &connections_fops);
	debugfs_create_file("policers", 0444, dir, nic, &policers_fops);
	debugfs_create_file("counters", 0444, dir, nic, &counters_fops);
}

int simnic_debugfs_init(void)
{
	root = debugfs_create_dir("simnic", NULL);
	if (IS_ERR(root))
		return PTR_ERR(root);
	debugfs_create_file("new", 0200, root, NULL, &new_ops);
	debugfs_create_file("del", 0200, root, NULL, &del_ops);
	return 0;
}

void simnic_debugfs_exit(void)
{
	debugfs_remove_recursive(root);
}
