// SPDX-License-Identifier: GPL-2.0
/* VXLAN and Geneve over UDP and IPv4 or IPv6: outer headers, read and written. */
#include "simnic.h"

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <net/geneve.h>
#include <net/inet_ecn.h>
#include <net/ip6_checksum.h>
#include <net/ipv6_stubs.h>
#include <net/neighbour.h>
#include <net/route.h>
#include <net/udp.h>
#include <net/vxlan.h>

static __be64 vni_to_id(const u8 *vni)
{
	return cpu_to_be64((u64)vni[0] << 16 | vni[1] << 8 | vni[2]);
}

static int read_vxlan(const u8 *at, unsigned int len, bool gbp, struct simnic_key *outer)
{
	const struct vxlanhdr_gbp *with = (const void *)at;
	const struct vxlanhdr *hdr = (const void *)at;
	struct vxlan_metadata *md;

	if (len < sizeof(*hdr) || !(hdr->vx_flags & VXLAN_HF_VNI))
		return -EINVAL;
	outer->enc_key_id.keyid = cpu_to_be32(be32_to_cpu(hdr->vx_vni) >> 8);
	if (gbp && hdr->vx_flags & VXLAN_HF_GBP) {
		md = (void *)outer->enc_opts.data;
		md->gbp = ntohs(with->policy_id) | (with->dont_learn ? VXLAN_GBP_DONT_LEARN : 0) |
			  (with->policy_applied ? VXLAN_GBP_POLICY_APPLIED : 0);
		outer->enc_opts.len = sizeof(*md);
		outer->enc_opts.dst_opt_type = TUNNEL_VXLAN_OPT;
	}
	return sizeof(*hdr);
}

static int read_geneve(const u8 *at, unsigned int len, struct simnic_key *outer)
{
	const struct genevehdr *hdr = (const void *)at;
	unsigned int options;

	if (len < sizeof(*hdr))
		return -EINVAL;
	options = hdr->opt_len * 4;
	if (hdr->ver || hdr->proto_type != htons(ETH_P_TEB) || len < sizeof(*hdr) + options || hdr->oam)
		return -EINVAL;
	BUILD_BUG_ON(FLOW_DIS_TUN_OPTS_MAX < 63 * 4);
	outer->enc_key_id.keyid = cpu_to_be32(be64_to_cpu(vni_to_id(hdr->vni)));
	if (options) {
		memcpy(outer->enc_opts.data, hdr->options, options);
		outer->enc_opts.len = options;
		outer->enc_opts.dst_opt_type = TUNNEL_GENEVE_OPT;
	}
	return sizeof(*hdr) + options;
}

/* Reads IP and UDP headers: where the payload is. */
static int read_udp(struct sk_buff *skb, struct simnic_key *outer, unsigned int *end)
{
	unsigned int at = ETH_HLEN;
	const struct udphdr *udp;

	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *ip = (const void *)(skb->data + at);

		if (skb->len < at + sizeof(*ip) || ip->ihl < 5 || ip->protocol != IPPROTO_UDP || ip_is_fragment(ip))
			return -EINVAL;
		*end = at + ntohs(ip->tot_len);
		if (skb->len < at + ip->ihl * 4 || ip_fast_csum((const u8 *)ip, ip->ihl))
			return -EINVAL;
		outer->enc_control.addr_type = FLOW_DISSECTOR_KEY_IPV4_ADDRS;
		outer->enc_ipv4.src = ip->saddr;
		outer->enc_ipv4.dst = ip->daddr;
		outer->enc_ip.tos = ip->tos;
		outer->enc_ip.ttl = ip->ttl;
		at += ip->ihl * 4;
	} else if (skb->protocol == htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip = (const void *)(skb->data + at);

		if (skb->len < at + sizeof(*ip) || ip->nexthdr != IPPROTO_UDP)
			return -EINVAL;
		*end = at + sizeof(*ip) + ntohs(ip->payload_len);
		outer->enc_control.addr_type = FLOW_DISSECTOR_KEY_IPV6_ADDRS;
		outer->enc_ipv6.src = ip->saddr;
		outer->enc_ipv6.dst = ip->daddr;
		outer->enc_ip.tos = ipv6_get_dsfield(ip);
		outer->enc_ip.ttl = ip->hop_limit;
		at += sizeof(*ip);
	} else {
		return -EINVAL;
	}
	if (*end > skb->len || *end < at + sizeof(*udp))
		return -EINVAL;
	udp = (const void *)(skb->data + at);
	if (ntohs(udp->len) != *end - at)
		return -EINVAL;
	outer->enc_tp.src = udp->source;
	outer->enc_tp.dst = udp->dest;
	return at + sizeof(*udp);
}

/* Whether the checksum of the UDP header before `at` is right, or there is none. */
static bool udp_sum_fits(struct sk_buff *skb, unsigned int at, unsigned int end)
{
	const struct udphdr *udp = (const void *)(skb->data + at - sizeof(*udp));
	unsigned int len = end - at + sizeof(*udp);
	__wsum sum;

	if (!udp->check)
		return true;
	sum = csum_partial(udp, len, 0);
	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *ip = (const void *)(skb->data + ETH_HLEN);

		return !csum_tcpudp_magic(ip->saddr, ip->daddr, len, IPPROTO_UDP, sum);
	} else {
		const struct ipv6hdr *ip = (const void *)(skb->data + ETH_HLEN);

		return !csum_ipv6_magic(&ip->saddr, &ip->daddr, len, IPPROTO_UDP, sum);
	}
}

/*
 * The tunnel device that a frame from the wire is for, if rules of one are in the NIC; what its outer headers say, and how
 * long they are. Nothing is changed.
 */
struct simnic_source *simnic_outer(struct simnic *nic, struct sk_buff *skb, struct simnic_key *outer, unsigned int *length)
{
	struct simnic_source *tunnel;
	unsigned int end;
	int at, more;

	if (list_empty(&nic->tunnels) || skb_vlan_tag_present(skb))
		return NULL;
	memset(outer, 0, sizeof(*outer));
	at = read_udp(skb, outer, &end);
	if (at < 0)
		return NULL;
	list_for_each_entry_rcu(tunnel, &nic->tunnels, list) {
		if (tunnel->udp_port != outer->enc_tp.dst)
			continue;
		if (tunnel->kind == SIMNIC_VXLAN)
			more = read_vxlan(skb->data + at, end - at, tunnel->gbp, outer);
		else
			more = read_geneve(skb->data + at, end - at, outer);
		if (more < 0 || end - at - more < ETH_HLEN || !udp_sum_fits(skb, at, end))
			return NULL;
		*length = at + more;
		return tunnel;
	}
	return NULL;
}

/* The outer headers are gone, the packet is the inner frame: congestion that they tell of goes over into it. */
void simnic_decapsulated(struct sk_buff *skb, const struct simnic_key *outer, unsigned int length)
{
	u8 inner = 0;

	if (skb->protocol == htons(ETH_P_IP) && skb->len >= ETH_HLEN + sizeof(struct iphdr))
		inner = ((struct iphdr *)(skb->data + ETH_HLEN))->tos;
	else if (skb->protocol == htons(ETH_P_IPV6) && skb->len >= ETH_HLEN + sizeof(struct ipv6hdr))
		inner = ipv6_get_dsfield((struct ipv6hdr *)(skb->data + ETH_HLEN));
	if (INET_ECN_is_ce(outer->enc_ip.tos) && !INET_ECN_is_not_ect(inner) && !INET_ECN_is_ce(inner) &&
	    !skb_ensure_writable(skb, min_t(unsigned int, skb->len, ETH_HLEN + sizeof(struct ipv6hdr)))) {
		if (skb->protocol == htons(ETH_P_IP))
			IP_ECN_set_ce((struct iphdr *)(skb->data + ETH_HLEN));
		else
			IP6_ECN_set_ce(skb, (struct ipv6hdr *)(skb->data + ETH_HLEN));
	}
}

/* How to get to the other end: the device to send from, the addresses, the time to live. */
struct simnic_path {
	struct dst_entry *dst;
	union {
		struct flowi4 fl4;
		struct flowi6 fl6;
	};
	u8 ttl, tos;
	u8 ether[ETH_ALEN];
};

static struct dst_entry *route4(struct net *net, const struct ip_tunnel_key *key, struct flowi4 *fl4)
{
	struct rtable *rt;

	memset(fl4, 0, sizeof(*fl4));
	fl4->flowi4_tos = RT_TOS(key->tos);
	fl4->daddr = key->u.ipv4.dst;
	fl4->saddr = key->u.ipv4.src;
	fl4->flowi4_proto = IPPROTO_UDP;
	rt = ip_route_output_key(net, fl4);
	return IS_ERR(rt) ? NULL : &rt->dst;
}

static struct dst_entry *route6(struct net *net, const struct ip_tunnel_key *key, struct flowi6 *fl6)
{
	struct dst_entry *dst;

	memset(fl6, 0, sizeof(*fl6));
	fl6->daddr = key->u.ipv6.dst;
	fl6->saddr = key->u.ipv6.src;
	fl6->flowi6_proto = IPPROTO_UDP;
	fl6->flowlabel = ip6_make_flowinfo(key->tos, key->label);
	dst = ipv6_stub->ipv6_dst_lookup_flow(net, NULL, fl6, NULL);
	return IS_ERR(dst) ? NULL : dst;
}

/* Whether what is sent from `dev` leaves by the uplink: it is the uplink, its bond, or the bridge that it is a port of. */
static bool leaves_by(const struct net_device *dev, struct net_device *uplink)
{
	struct net_device *master = netdev_master_upper_dev_get_rcu(uplink);

	return dev == uplink || (master && dev == master) ||
	       (netif_is_ovs_master(dev) && netif_is_ovs_port(uplink));
}

static bool find_path(struct simnic *nic, const struct ip_tunnel_info *info, struct simnic_path *path)
{
	bool six = info->mode & IP_TUNNEL_INFO_IPV6, found = false;
	struct neighbour *neigh;

	path->dst = six ? route6(nic->net, &info->key, &path->fl6) : route4(nic->net, &info->key, &path->fl4);
	if (!path->dst)
		return false;
	if (!leaves_by(path->dst->dev, nic->ports[0].dev))
		goto out;
	neigh = dst_neigh_lookup(path->dst, six ? (void *)&path->fl6.daddr : (void *)&path->fl4.daddr);
	if (!neigh)
		goto out;
	if (neigh->nud_state & NUD_VALID) {
		neigh_ha_snapshot(path->ether, neigh, path->dst->dev);
		found = true;
	}
	/* Keeps the entry fresh, as a packet from the kernel would. */
	neigh_event_send(neigh, NULL);
	neigh_release(neigh);
	path->ttl = info->key.ttl ?: (six ? ip6_dst_hoplimit(path->dst) : ip4_dst_hoplimit(path->dst));
out:
	if (!found)
		dst_release(path->dst);
	return found;
}

static void write_inner_header(struct sk_buff *skb, enum simnic_tunnel_kind kind, const struct ip_tunnel_info *info)
{
	u32 vni = be64_to_cpu(info->key.tun_id);

	if (kind == SIMNIC_VXLAN) {
		struct vxlanhdr *hdr = __skb_push(skb, sizeof(*hdr));

		hdr->vx_flags = VXLAN_HF_VNI;
		hdr->vx_vni = cpu_to_be32(vni << 8);
		if (info->key.tun_flags & TUNNEL_VXLAN_OPT && info->options_len >= sizeof(struct vxlan_metadata)) {
			const struct vxlan_metadata *md = ip_tunnel_info_opts((struct ip_tunnel_info *)info);
			struct vxlanhdr_gbp *gbp = (void *)hdr;

			hdr->vx_flags |= VXLAN_HF_GBP;
			gbp->dont_learn = !!(md->gbp & VXLAN_GBP_DONT_LEARN);
			gbp->policy_applied = !!(md->gbp & VXLAN_GBP_POLICY_APPLIED);
			gbp->policy_id = htons(md->gbp & VXLAN_GBP_ID_MASK);
		}
	} else {
		bool options = info->key.tun_flags & TUNNEL_GENEVE_OPT;
		unsigned int len = options ? info->options_len : 0;
		struct genevehdr *hdr = __skb_push(skb, sizeof(*hdr) + len);

		memset(hdr, 0, sizeof(*hdr));
		hdr->opt_len = len / 4;
		hdr->critical = !!(info->key.tun_flags & TUNNEL_CRIT_OPT);
		hdr->oam = !!(info->key.tun_flags & TUNNEL_OAM);
		hdr->proto_type = htons(ETH_P_TEB);
		hdr->vni[0] = vni >> 16;
		hdr->vni[1] = vni >> 8;
		hdr->vni[2] = vni;
		if (len)
			memcpy(hdr->options, ip_tunnel_info_opts((struct ip_tunnel_info *)info), len);
	}
}

static void write_ip(struct sk_buff *skb, const struct ip_tunnel_info *info, const struct simnic_path *path)
{
	unsigned int len = skb->len;

	if (info->mode & IP_TUNNEL_INFO_IPV6) {
		struct ipv6hdr *ip = __skb_push(skb, sizeof(*ip));

		ip6_flow_hdr(ip, path->tos, info->key.label);
		ip->payload_len = htons(len);
		ip->nexthdr = IPPROTO_UDP;
		ip->hop_limit = path->ttl;
		ip->saddr = path->fl6.saddr;
		ip->daddr = path->fl6.daddr;
	} else {
		struct iphdr *ip = __skb_push(skb, sizeof(*ip));

		memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = sizeof(*ip) / 4;
		ip->tos = path->tos;
		ip->tot_len = htons(len + sizeof(*ip));
		ip->frag_off = info->key.tun_flags & TUNNEL_DONT_FRAGMENT ? htons(IP_DF) : 0;
		if (!ip->frag_off)
			get_random_bytes(&ip->id, sizeof(ip->id));
		ip->ttl = path->ttl;
		ip->protocol = IPPROTO_UDP;
		ip->saddr = path->fl4.saddr;
		ip->daddr = path->fl4.daddr;
		ip->check = ip_fast_csum((u8 *)ip, ip->ihl);
	}
}

static void write_udp(struct sk_buff *skb, const struct ip_tunnel_info *info, const struct simnic_path *path,
		      __be16 source, __be16 port)
{
	struct udphdr *udp = __skb_push(skb, sizeof(*udp));
	unsigned int len = skb->len;
	__wsum sum;

	udp->source = source;
	udp->dest = port;
	udp->len = htons(len);
	udp->check = 0;
	if (!(info->key.tun_flags & TUNNEL_CSUM))
		return;
	sum = csum_partial(udp, len, 0);
	if (info->mode & IP_TUNNEL_INFO_IPV6)
		udp->check = csum_ipv6_magic(&path->fl6.saddr, &path->fl6.daddr, len, IPPROTO_UDP, sum);
	else
		udp->check = csum_tcpudp_magic(path->fl4.saddr, path->fl4.daddr, len, IPPROTO_UDP, sum);
	udp->check = udp->check ?: CSUM_MANGLED_0;
}

/* By the kernel's own tunnel device: it knows what to do when the other end's address is not known yet. */
static void slowly(struct simnic *nic, struct sk_buff *skb, int ifindex, struct metadata_dst *tunnel)
{
	struct net_device *dev = dev_get_by_index_rcu(nic->net, ifindex);

	if (!dev || !(dev->flags & IFF_UP) || !dst_hold_safe(&tunnel->dst)) {
		COUNT(nic, broken);
		kfree_skb(skb);
		return;
	}
	COUNT(nic, slow_encapsulations);
	skb_dst_drop(skb);
	skb_dst_set(skb, &tunnel->dst);
	skb->dev = dev;
	dev_queue_xmit(skb);
}

/* Sends a frame through a tunnel and out of the uplink. */
void simnic_encapsulate(struct simnic *nic, struct sk_buff *skb, const struct simnic_action *to,
			struct metadata_dst *tunnel)
{
	const struct ip_tunnel_info *info = &tunnel->u.tun_info;
	struct simnic_path path;
	struct ethhdr *eth;
	const u8 *src;
	__be16 source;

	if (!find_path(nic, info, &path)) {
		slowly(nic, skb, to->to.ifindex, tunnel);
		return;
	}
	src = path.dst->dev->dev_addr;
	if (skb_vlan_tag_present(skb))
		skb = __vlan_hwaccel_push_inside(skb);
	if (!skb)
		goto lost;
	path.tos = ip_tunnel_ecn_encap(info->key.tos, ip_hdr(skb), skb);
	if (skb_cow_head(skb, LL_MAX_HEADER + sizeof(struct ipv6hdr) + sizeof(struct udphdr) +
				  sizeof(struct genevehdr) + IP_TUNNEL_OPTS_MAX)) {
		kfree_skb(skb);
		goto lost;
	}
	skb_clear_hash(skb);
	source = udp_flow_src_port(nic->net, skb, 0, 0, true);
	write_inner_header(skb, to->to.tunnel, info);
	write_udp(skb, info, &path, source, info->key.tp_dst ?: to->to.udp_port);
	skb_reset_transport_header(skb);
	write_ip(skb, info, &path);
	skb_reset_network_header(skb);
	skb->protocol = info->mode & IP_TUNNEL_INFO_IPV6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	eth = __skb_push(skb, sizeof(*eth));
	skb_reset_mac_header(skb);
	skb->mac_len = ETH_HLEN;
	ether_addr_copy(eth->h_dest, path.ether);
	ether_addr_copy(eth->h_source, src);
	eth->h_proto = skb->protocol;
	dst_release(path.dst);
	COUNT(nic, encapsulated);
	simnic_send(&nic->ports[0], skb);
	return;
lost:
	dst_release(path.dst);
	COUNT(nic, broken);
}
