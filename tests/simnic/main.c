// SPDX-License-Identifier: GPL-2.0
/* NICs, their network devices and what these carry. */
#include "simnic.h"

#include <linux/debugfs.h>
#include <linux/ethtool.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <net/net_namespace.h>

struct workqueue_struct *simnic_wq;

static DEFINE_MUTEX(nics_lock);
static LIST_HEAD(nics);

static struct simnic_port *port_of(const struct net_device *dev)
{
	return *(struct simnic_port **)netdev_priv(dev);
}

static int init(struct net_device *dev)
{
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	return dev->tstats ? 0 : -ENOMEM;
}

static void uninit(struct net_device *dev)
{
	free_percpu(dev->tstats);
}

static int start(struct net_device *dev)
{
	netif_start_queue(dev);
	return 0;
}

static int stop(struct net_device *dev)
{
	netif_stop_queue(dev);
	return 0;
}

/* Out of the uplink onto the wire, or out of a representor into the VF. */
void simnic_send(struct simnic_port *port, struct sk_buff *skb)
{
	struct net_device *from = port->dev, *to = port->peer;
	unsigned int len = skb->len;

	if (!(from->flags & IFF_UP) || !(to->flags & IFF_UP) || !pskb_may_pull(skb, ETH_HLEN)) {
		dev_core_stats_tx_dropped_inc(from);
		kfree_skb(skb);
		return;
	}
	if (!is_skb_forwardable(to, skb)) {
		COUNT(port->nic, oversize);
		dev_core_stats_tx_dropped_inc(from);
		kfree_skb(skb);
		return;
	}
	dev_sw_netstats_tx_add(from, 1, len);
	skb_orphan(skb);
	skb_scrub_packet(skb, true);
	skb->priority = 0;
	skb->protocol = eth_type_trans(skb, to);
	if (netif_rx(skb) == NET_RX_SUCCESS)
		dev_sw_netstats_rx_add(to, len);
}

void simnic_receive(struct net_device *dev, struct sk_buff *skb)
{
	skb->protocol = eth_type_trans(skb, dev);
	netif_rx(skb);
}

static netdev_tx_t port_xmit(struct sk_buff *skb, struct net_device *dev)
{
	simnic_send(port_of(dev), skb);
	return NETDEV_TX_OK;
}

/* What the wire or a VF sends comes into the NIC. */
static netdev_tx_t peer_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct simnic_port *port = port_of(dev);

	skb_tx_timestamp(skb);
	if (!(port->dev->flags & IFF_UP)) {
		dev_core_stats_tx_dropped_inc(dev);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	dev_sw_netstats_tx_add(dev, 1, skb->len);
	dev_sw_netstats_rx_add(port->dev, skb->len);
	skb_orphan(skb);
	skb_scrub_packet(skb, true);
	skb->priority = 0;
	/* What the sender's kernel knew of tunnels inside is not on the wire. */
	skb->encapsulation = 0;
	skb->inner_protocol = 0;
	rcu_read_lock();
	simnic_run(port, skb);
	rcu_read_unlock();
	return NETDEV_TX_OK;
}

static int parent_id(struct net_device *dev, struct netdev_phys_item_id *id)
{
	struct simnic *nic = port_of(dev)->nic;

	id->id_len = sizeof(nic->id);
	memcpy(id->id, nic->id, sizeof(nic->id));
	return 0;
}

static int phys_port_name(struct net_device *dev, char *name, size_t len)
{
	unsigned int index = port_of(dev)->index;
	int n = index ? snprintf(name, len, "pf0vf%u", index - 1) : snprintf(name, len, "p0");

	return n >= len ? -EINVAL : 0;
}

static const struct net_device_ops port_ops = {
	.ndo_init = init,
	.ndo_uninit = uninit,
	.ndo_open = start,
	.ndo_stop = stop,
	.ndo_start_xmit = port_xmit,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_setup_tc = simnic_setup_tc,
	.ndo_get_port_parent_id = parent_id,
	.ndo_get_phys_port_name = phys_port_name,
};

static const struct net_device_ops peer_ops = {
	.ndo_init = init,
	.ndo_uninit = uninit,
	.ndo_open = start,
	.ndo_stop = stop,
	.ndo_start_xmit = peer_xmit,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static void drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	strscpy(info->bus_info, port_of(dev)->nic->name, sizeof(info->bus_info));
}

static int link_settings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	settings->base.speed = SPEED_25000;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_OTHER;
	settings->base.autoneg = AUTONEG_DISABLE;
	return 0;
}

static const struct ethtool_ops dev_ethtool_ops = {
	.get_drvinfo = drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = link_settings,
	.get_ts_info = ethtool_op_get_ts_info,
};

/* Frames are whole and summed: no device of the NIC asks the kernel for less. */
static void dev_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->ethtool_ops = &dev_ethtool_ops;
	dev->features |= NETIF_F_LLTX;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = ETH_MAX_MTU;
	eth_hw_addr_random(dev);
}

static struct net_device *make_dev(struct simnic_port *port, const char *name, const struct net_device_ops *ops)
{
	struct net_device *dev = alloc_netdev(sizeof(struct simnic_port *), name, NET_NAME_USER, dev_setup);
	int err;

	if (!dev)
		return ERR_PTR(-ENOMEM);
	*(struct simnic_port **)netdev_priv(dev) = port;
	dev_net_set(dev, port->nic->net);
	dev->netdev_ops = ops;
	if (ops == &port_ops) {
		dev->features |= NETIF_F_HW_TC | NETIF_F_NETNS_LOCAL;
		dev->hw_features |= NETIF_F_HW_TC;
	}
	err = register_netdevice(dev);
	if (err) {
		free_netdev(dev);
		return ERR_PTR(err);
	}
	return dev;
}

/* Under rtnl. What is made before a failure is for the caller to remove. */
static int make_port(struct simnic *nic, unsigned int index)
{
	struct simnic_port *port = &nic->ports[index];
	char name[IFNAMSIZ], peer[IFNAMSIZ];
	struct net_device *dev;

	port->nic = nic;
	port->index = index;
	if (index) {
		snprintf(name, sizeof(name), "%s_%u", nic->name, index - 1);
		snprintf(peer, sizeof(peer), "%sv%u", nic->name, index - 1);
	} else {
		snprintf(name, sizeof(name), "%s", nic->name);
		snprintf(peer, sizeof(peer), "%sw", nic->name);
	}
	dev = make_dev(port, peer, &peer_ops);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	port->peer = dev;
	dev = make_dev(port, name, &port_ops);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	port->dev = dev;
	return simnic_source_init(&port->source, nic, dev);
}

struct simnic_port *simnic_port_of(struct simnic *nic, const struct net_device *dev)
{
	struct net_device *master;
	unsigned int i;

	if (dev->netdev_ops == &port_ops && port_of(dev)->nic == nic)
		return port_of(dev);
	for (i = 0; i < nic->n_ports; i++) {
		rcu_read_lock();
		master = netdev_master_upper_dev_get_rcu(nic->ports[i].dev);
		rcu_read_unlock();
		if (master == dev && netif_is_lag_master(dev))
			return &nic->ports[i];
	}
	return NULL;
}

static void remove_devices(struct simnic *nic)
{
	LIST_HEAD(gone);
	unsigned int i;

	rtnl_lock();
	for (i = 0; i < nic->n_ports; i++) {
		if (nic->ports[i].dev)
			unregister_netdevice_queue(nic->ports[i].dev, &gone);
		if (nic->ports[i].peer)
			unregister_netdevice_queue(nic->ports[i].peer, &gone);
	}
	unregister_netdevice_many(&gone);
	rtnl_unlock();
}

static void destroy(struct simnic *nic)
{
	struct simnic_policer *policer, *next;
	unsigned int i;

	WRITE_ONCE(nic->dying, true);
	debugfs_remove_recursive(nic->dir);
	flow_indr_dev_unregister(simnic_setup_indirect, nic, simnic_release_indirect);
	remove_devices(nic);
	for (i = 0; i < nic->n_ports; i++)
		if (nic->ports[i].source.nic)
			simnic_source_flush(&nic->ports[i].source);
	mutex_lock(&nic->lock);
	list_for_each_entry_safe(policer, next, &nic->policers, list) {
		policer->users = 1;
		simnic_policer_put(policer);
	}
	mutex_unlock(&nic->lock);
	rcu_barrier();
	flush_workqueue(simnic_wq);
	for (i = 0; i < nic->n_ports; i++) {
		if (nic->ports[i].source.nic)
			rhashtable_destroy(&nic->ports[i].source.by_cookie);
		if (nic->ports[i].dev)
			free_netdev(nic->ports[i].dev);
		if (nic->ports[i].peer)
			free_netdev(nic->ports[i].peer);
	}
	kvfree(nic);
}

static struct simnic *find(const char *name)
{
	struct simnic *nic;

	list_for_each_entry(nic, &nics, list)
		if (!strcmp(nic->name, name))
			return nic;
	return NULL;
}

static struct simnic *alloc(struct net *net, const char *name, unsigned int reps)
{
	struct simnic *nic = kvzalloc(struct_size(nic, ports, reps + 1), GFP_KERNEL);

	if (!nic)
		return NULL;
	strscpy(nic->name, name, sizeof(nic->name));
	nic->net = net;
	nic->n_ports = reps + 1;
	eth_random_addr(nic->id);
#define X(name, start) nic->name = start;
	SIMNIC_KNOBS(X)
#undef X
	mutex_init(&nic->lock);
	spin_lock_init(&nic->stats_lock);
	INIT_LIST_HEAD(&nic->tunnels);
	INIT_LIST_HEAD(&nic->policers);
	INIT_LIST_HEAD(&nic->zones);
	return nic;
}

struct simnic *simnic_create(struct net *net, const char *name, unsigned int reps)
{
	struct simnic *nic;
	unsigned int i;
	int err = 0;

	/* Room for _127. */
	if (!reps || reps > SIMNIC_MAX_REPS || strlen(name) + 5 > IFNAMSIZ || !dev_valid_name(name))
		return ERR_PTR(-EINVAL);
	mutex_lock(&nics_lock);
	if (find(name)) {
		mutex_unlock(&nics_lock);
		return ERR_PTR(-EEXIST);
	}
	nic = alloc(net, name, reps);
	if (!nic) {
		mutex_unlock(&nics_lock);
		return ERR_PTR(-ENOMEM);
	}
	rtnl_lock();
	for (i = 0; !err && i < nic->n_ports; i++)
		err = make_port(nic, i);
	rtnl_unlock();
	if (!err)
		err = flow_indr_dev_register(simnic_setup_indirect, nic);
	if (err) {
		destroy(nic);
		nic = ERR_PTR(err);
	} else {
		simnic_debugfs_add(nic);
		list_add_tail(&nic->list, &nics);
	}
	mutex_unlock(&nics_lock);
	return nic;
}

int simnic_remove(struct net *net, const char *name)
{
	struct simnic *nic;

	mutex_lock(&nics_lock);
	nic = find(name);
	if (nic && net_eq(nic->net, net))
		list_del(&nic->list);
	else
		nic = NULL;
	mutex_unlock(&nics_lock);
	if (!nic)
		return -ENODEV;
	destroy(nic);
	return 0;
}

/* A NIC goes with the namespace that it was made in; VFs elsewhere go with it. */
static void __net_exit exit_net(struct net *net)
{
	struct simnic *nic, *next;
	LIST_HEAD(gone);

	mutex_lock(&nics_lock);
	list_for_each_entry_safe(nic, next, &nics, list)
		if (net_eq(nic->net, net))
			list_move(&nic->list, &gone);
	mutex_unlock(&nics_lock);
	list_for_each_entry_safe(nic, next, &gone, list)
		destroy(nic);
}

static struct pernet_operations net_ops = {
	.exit = exit_net,
};

static int __init simnic_init(void)
{
	int err;

	simnic_tcam_init();
	simnic_wq = alloc_workqueue("simnic", 0, 0);
	if (!simnic_wq)
		return -ENOMEM;
	err = register_pernet_device(&net_ops);
	if (err)
		goto no_net;
	err = simnic_debugfs_init();
	if (err)
		goto no_debugfs;
	return 0;
no_debugfs:
	unregister_pernet_device(&net_ops);
no_net:
	destroy_workqueue(simnic_wq);
	return err;
}

static void __exit simnic_exit(void)
{
	/* Takes the NICs of every namespace with it. */
	unregister_pernet_device(&net_ops);
	simnic_debugfs_exit();
	rcu_barrier();
	destroy_workqueue(simnic_wq);
}

module_init(simnic_init);
module_exit(simnic_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A simulated switching NIC with flower and conntrack offload");
