/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A simulated switching NIC: see README.
 *
 * main.c     NICs, their network devices and what these carry
 * debugfs.c  making NICs, setting faults, reading tables
 * offload.c  what tc asks for: blocks, rules, policers; checks and refusals
 * tcam.c     the rules as the hardware holds them, and finding the one that a packet hits
 * act.c      a packet's way through the rules
 * edit.c     changes of packets
 * tunnel.c   outer headers, read and written
 * ct.c       offloaded connections
 * police.c   policers
 *
 * Locks, outermost first: rtnl or a block's cb_lock (the kernel's), nic->lock, a flow table's flow_block_lock (the
 * kernel's), zone->lock. The packet path takes none of them: it runs under RCU with bottom halves off.
 */
#ifndef SIMNIC_H
#define SIMNIC_H

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/rhashtable.h>
#include <linux/skbuff.h>
#include <linux/workqueue.h>
#include <net/dst_metadata.h>
#include <net/flow_dissector.h>
#include <net/flow_offload.h>
#include <net/ip_tunnels.h>
#include <net/pkt_cls.h>

#define SIMNIC_MAX_REPS 128
/* Rules and connections that one packet may hit. */
#define SIMNIC_MAX_HITS 32
#define SIMNIC_CHAIN_BITS 8

struct simnic;
struct nf_flowtable;
struct psample_group;

/* What a packet is matched by. */
struct simnic_key {
	struct flow_dissector_key_meta meta;
	struct flow_dissector_key_control control;
	struct flow_dissector_key_control enc_control;
	struct flow_dissector_key_basic basic;
	struct flow_dissector_key_eth_addrs eth;
	struct flow_dissector_key_vlan vlan;
	struct flow_dissector_key_vlan cvlan;
	union {
		struct flow_dissector_key_ipv4_addrs ipv4;
		struct flow_dissector_key_ipv6_addrs ipv6;
	};
	struct flow_dissector_key_ports tp;
	struct flow_dissector_key_tcp tcp;
	struct flow_dissector_key_ip ip;
	struct flow_dissector_key_icmp icmp;
	struct flow_dissector_key_ct ct;
	struct flow_dissector_key_arp arp;
	struct flow_dissector_key_mpls mpls;
	struct flow_dissector_key_keyid enc_key_id;
	union {
		struct flow_dissector_key_ipv4_addrs enc_ipv4;
		struct flow_dissector_key_ipv6_addrs enc_ipv6;
	};
	struct flow_dissector_key_ports enc_tp;
	struct flow_dissector_key_ip enc_ip;
	struct flow_dissector_key_enc_opts enc_opts;
} __aligned(8);

enum simnic_tunnel_kind { SIMNIC_NO_TUNNEL, SIMNIC_VXLAN, SIMNIC_GENEVE };

/* Where packets come in that rules are for: a port, or a tunnel device of the kernel's. */
struct simnic_source {
	struct simnic *nic;
	int ifindex;
	char name[IFNAMSIZ];
	/* It has a block. */
	bool bound;
	/* Of a tunnel device only. */
	enum simnic_tunnel_kind kind;
	__be16 udp_port;
	bool gbp;
	struct list_head list;
	struct rcu_work work;

	/* Changed under nic->lock. */
	struct rhashtable by_cookie;
	struct list_head rules;
	struct hlist_head chains[1 << SIMNIC_CHAIN_BITS];
};

/* Rules of one source and chain. */
struct simnic_chain {
	struct hlist_node node;
	u32 index;
	/* By priority, then by age. */
	struct list_head groups;
	struct rcu_head rcu;
};

/* Rules of one chain with one priority and one mask. */
struct simnic_group {
	struct list_head list;
	struct simnic_chain *chain;
	u32 prio;
	__be16 protocol;
	u16 from, len;
	unsigned int count;
	struct simnic_key mask;
	struct rhltable rules;
	struct rhashtable_params params;
	struct rcu_work work;
};

struct simnic_port {
	struct simnic *nic;
	unsigned int index; /* 0 is the uplink. */
	struct net_device *dev; /* The uplink or representor. */
	struct net_device *peer; /* The wire or VF. */
	struct simnic_source source;
};

struct simnic_stats {
	atomic64_t packets, bytes, drops;
	unsigned long used;
	/* What was told before; under nic->stats_lock. */
	u64 told_packets, told_bytes, told_drops;
};

struct simnic_policer {
	struct list_head list;
	struct simnic *nic;
	u32 index;
	unsigned int users;
	bool standalone; /* Made by a request for the action itself. */
	spinlock_t lock;
	u64 rate, burst; /* Bytes a second, bytes; rate 0: none. */
	u64 rate_pkt, burst_pkt;
	u64 tokens, tokens_pkt; /* In units of 1 / NSEC_PER_SEC. */
	u64 filled;
	struct simnic_stats stats;
	struct rcu_head rcu;
};

/* The connections of one flow table of the kernel's. */
struct simnic_zone {
	struct list_head list;
	struct simnic *nic;
	struct nf_flowtable *table;
	u16 id;
	unsigned int rules; /* Of the kernel's; at zero the table is not ours any more. */
	refcount_t refs;
	struct mutex lock;
	struct list_head conns;
	struct rhashtable by_cookie;
	struct rhashtable by_tuple;
	struct rcu_work work;
};

enum simnic_target { SIMNIC_TO_PORT, SIMNIC_TO_TUNNEL, SIMNIC_TO_STACK };

struct simnic_action {
	enum flow_action_id id;
	union {
		u32 chain;
		struct {
			enum simnic_target kind;
			struct simnic_port *port;
			int ifindex;
			enum simnic_tunnel_kind tunnel;
			__be16 udp_port;
		} to;
		struct {
			u16 vid;
			__be16 proto;
			u8 prio;
		} vlan;
		struct {
			u8 dst[ETH_ALEN];
			u8 src[ETH_ALEN];
		} eth;
		struct {
			enum flow_action_mangle_base base;
			u32 offset, mask, val;
		} mangle;
		struct metadata_dst *tunnel;
		u32 csum_flags;
		u32 mark;
		u16 ptype;
		u32 priority;
		struct {
			struct psample_group *group;
			u32 rate, trunc_size;
		} sample;
		struct {
			struct simnic_policer *policer;
			enum flow_action_id exceed, conform;
		} police;
		struct {
			struct simnic_zone *zone; /* None: clear. */
		} ct;
		struct {
			__be16 proto;
			u32 label;
			u8 tc, bos, ttl;
		} mpls;
	};
};

struct simnic_rule {
	struct rhlist_head by_key;
	struct rhash_head by_cookie;
	struct list_head list;
	unsigned long cookie;
	struct simnic_source *source;
	struct simnic_group *group;
	bool lost; /* The kernel deleted it, the NIC did not. */
	bool partial; /* It may end without a verdict: what it changed is undone then. */
	struct simnic_stats stats;
	struct rcu_head rcu;
	unsigned int n_actions;
	struct simnic_action *actions;
	u8 key[] __aligned(8);
};

struct simnic_conn_key {
	__be16 n_proto;
	u8 ip_proto;
	u8 zero;
	__be16 src_port, dst_port;
	struct in6_addr src, dst;
};

struct simnic_conn {
	struct rhash_head by_tuple;
	struct rhash_head by_cookie;
	struct list_head list;
	struct simnic_conn_key key;
	unsigned long cookie;
	bool lost;
	struct simnic_zone *zone;
	u16 ct_state;
	u32 mark;
	u32 labels[4];
	/* What network address translation makes of the key. */
	struct simnic_conn_key becomes;
	struct simnic_stats stats;
	struct rcu_head rcu;
};

/* Every knob: name, value at start, what it does. */
#define SIMNIC_KNOBS(X) \
	X(max_rules, 1000000) \
	X(max_connections, 1000000) \
	X(delay_us, 0) \
	X(delete_delay_us, 0) \
	X(refuse_permille, 0) \
	X(lose_deletes_permille, 0) \
	X(stats_stuck, 0) \
	X(stats_rewind, 0) \
	X(answering, 1) \
	X(answer_timeout_ms, 5000)

/* Every counter of the NIC. */
#define SIMNIC_COUNTERS(X) \
	X(rules_added) X(rules_deleted) X(rules_refused) X(rules_lost) \
	X(connections_added) X(connections_deleted) X(connections_refused) X(connections_lost) \
	X(timeouts) \
	X(received) X(missed) X(restarted) X(trapped) X(forwarded) X(dropped) X(oversize) X(broken) \
	X(encapsulated) X(decapsulated) X(slow_encapsulations) \
	X(ct_hits) X(ct_misses) X(sampled) X(policed)

enum simnic_counter {
#define X(name) SIMNIC_C_##name,
	SIMNIC_COUNTERS(X)
#undef X
	SIMNIC_N_COUNTERS
};

struct simnic {
	struct list_head list;
	char name[IFNAMSIZ];
	struct net *net;
	u8 id[ETH_ALEN];
	bool dying;

	u32 refuse_actions[2]; /* Bits of enum flow_action_id. */
	u32 refuse_keys; /* Bits of enum flow_dissector_key_id. */
#define X(name, start) u32 name;
	SIMNIC_KNOBS(X)
#undef X
	atomic64_t counters[SIMNIC_N_COUNTERS];
	atomic_t n_rules;
	atomic_t n_connections;
	struct dentry *dir;

	struct mutex lock;
	spinlock_t stats_lock;
	struct list_head tunnels; /* Of struct simnic_source. */
	struct list_head policers;
	struct list_head zones;

	unsigned int n_ports;
	struct simnic_port ports[];
};

static inline void simnic_count(struct simnic *nic, enum simnic_counter which)
{
	atomic64_inc(&nic->counters[which]);
}
#define COUNT(nic, name) simnic_count(nic, SIMNIC_C_##name)

extern struct workqueue_struct *simnic_wq;

/* main.c */
struct simnic *simnic_create(struct net *net, const char *name, unsigned int reps);
int simnic_remove(struct net *net, const char *name);
struct simnic_port *simnic_port_of(struct simnic *nic, const struct net_device *dev);
/* Sends a frame out of a port; it starts at the MAC header. */
void simnic_send(struct simnic_port *port, struct sk_buff *skb);
/* Hands a frame to the kernel as received on `dev`. */
void simnic_receive(struct net_device *dev, struct sk_buff *skb);

/* debugfs.c */
int simnic_debugfs_init(void);
void simnic_debugfs_exit(void);
void simnic_debugfs_add(struct simnic *nic);

/* offload.c */
int simnic_setup_tc(struct net_device *dev, enum tc_setup_type type, void *data);
int simnic_setup_indirect(struct net_device *dev, struct Qdisc *sch, void *cb_priv, enum tc_setup_type type,
			  void *type_data, void *data, void (*cleanup)(struct flow_block_cb *block_cb));
void simnic_release_indirect(void *cb_priv);
/* Waits until the NIC answers, then `delay_us`; an error if it does not. */
int simnic_command(struct simnic *nic, u32 delay_us, struct netlink_ext_ack *extack);
bool simnic_happens(u32 permille);
void simnic_tell(struct simnic *nic, struct simnic_stats *stats, struct flow_stats *to);
void simnic_hit(struct simnic_stats *stats, unsigned int bytes);

/* Gives back what actions hold, under nic->lock; then the memory. `used`: the kernel's rule was not told to be gone yet. */
void simnic_actions_release(struct simnic_action *actions, unsigned int n, bool used);
void simnic_actions_free(struct simnic_action *actions, unsigned int n);

/* tcam.c */
int simnic_source_init(struct simnic_source *source, struct simnic *nic, const struct net_device *dev);
void simnic_source_flush(struct simnic_source *source);
void simnic_source_forget_lost(struct simnic_source *source);
struct simnic_rule *simnic_tcam_find(struct simnic_source *source, unsigned long cookie);
int simnic_tcam_insert(struct simnic_source *source, struct flow_cls_offload *cls, struct simnic_action *actions,
		       unsigned int n_actions, bool partial);
void simnic_tcam_remove(struct simnic_rule *rule);
/* The rule stays, but the kernel does not know it any more. */
void simnic_tcam_lose(struct simnic_rule *rule);
struct simnic_rule *simnic_tcam_lookup(struct simnic_source *source, u32 chain, __be16 protocol,
				       const struct simnic_key *key);
int simnic_tcam_supports(struct simnic *nic, const struct flow_match *match, struct netlink_ext_ack *extack);
void simnic_tcam_dissect(struct sk_buff *skb, struct simnic_key *key);
void simnic_tcam_init(void);

/* act.c */
void simnic_run(struct simnic_port *in, struct sk_buff *skb);

/* edit.c: each returns an error if the packet cannot be changed so. */
int simnic_edit(struct sk_buff *skb, const struct simnic_action *action);
int simnic_edit_nat(struct sk_buff *skb, const struct simnic_conn_key *from, const struct simnic_conn_key *to);
int simnic_untag(struct sk_buff **skb);

/* tunnel.c */
struct simnic_source *simnic_outer(struct simnic *nic, struct sk_buff *skb, struct simnic_key *outer, unsigned int *length);
void simnic_decapsulated(struct sk_buff *skb, const struct simnic_key *outer, unsigned int length);
void simnic_encapsulate(struct simnic *nic, struct sk_buff *skb, const struct simnic_action *to,
			struct metadata_dst *tunnel);

/* ct.c */
struct simnic_zone *simnic_zone_get(struct simnic *nic, const struct flow_action_entry *entry,
				    struct netlink_ext_ack *extack);
void simnic_zone_unuse(struct simnic_zone *zone); /* A rule of the kernel's is gone. */
void simnic_zone_put(struct simnic_zone *zone);
struct simnic_conn *simnic_conn_lookup(struct simnic_zone *zone, const struct simnic_key *key);

/* police.c */
struct simnic_policer *simnic_policer_get(struct simnic *nic, const struct flow_action_entry *entry);
void simnic_policer_put(struct simnic_policer *policer);
bool simnic_police(struct simnic_policer *policer, unsigned int bytes);
int simnic_police_action(struct simnic *nic, struct flow_offload_action *act);

#endif
