// SPDX-License-Identifier: GPL-2.0
/* Changes of packets. A packet's data starts at its MAC header here, and at most its outer tag is beside the data. */
#include "simnic.h"

#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/igmp.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/mpls.h>
#include <linux/sctp.h>
#include <linux/tc_act/tc_csum.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/checksum.h>
#include <net/ip6_checksum.h>
#include <net/ipv6.h>
#include <net/mpls.h>
#include <net/sctp/checksum.h>
#include <net/tc_act/tc_mpls.h>

/* The outer tag moves beside the data, as the kernel has it for what it receives. */
int simnic_untag(struct sk_buff **skb)
{
	if (skb_vlan_tag_present(*skb) || !eth_type_vlan((*skb)->protocol))
		return 0;
	__skb_pull(*skb, ETH_HLEN);
	*skb = skb_vlan_untag(*skb);
	if (!*skb)
		return -ENOMEM;
	__skb_push(*skb, ETH_HLEN);
	skb_reset_network_header(*skb);
	skb_set_network_header(*skb, ETH_HLEN);
	(*skb)->mac_len = ETH_HLEN;
	return 0;
}

/* Where the layer-4 header is that IP at `l3` is followed by, if it is of `proto` (any, if 0) and not a later fragment. */
static int layer4(struct sk_buff *skb, int l3, __be16 n_proto, u8 *proto)
{
	if (n_proto == htons(ETH_P_IP)) {
		const struct iphdr *ip = (const void *)(skb->data + l3);

		if (skb->len < l3 + sizeof(*ip) || ip->ihl < 5 || ip->frag_off & htons(IP_OFFSET))
			return -EINVAL;
		*proto = ip->protocol;
		return l3 + ip->ihl * 4;
	}
	if (n_proto == htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip = (const void *)(skb->data + l3);
		__be16 fragment = 0;
		u8 next;
		int at;

		if (skb->len < l3 + sizeof(*ip))
			return -EINVAL;
		next = ip->nexthdr;
		at = ipv6_skip_exthdr(skb, l3 + sizeof(*ip), &next, &fragment);
		if (at < 0 || fragment & htons(~0x7))
			return -EINVAL;
		*proto = next;
		return at;
	}
	return -EPROTONOSUPPORT;
}

/* The layer-3 header behind all tags, and its protocol. */
static int layer3(struct sk_buff *skb, __be16 *n_proto)
{
	int at = skb_network_offset(skb);

	*n_proto = skb->protocol;
	while (eth_type_vlan(*n_proto)) {
		const struct vlan_hdr *tag = (const void *)(skb->data + at);

		if (skb->len < at + VLAN_HLEN)
			return -EINVAL;
		*n_proto = tag->h_vlan_encapsulated_proto;
		at += VLAN_HLEN;
	}
	return at;
}

static int mangle(struct sk_buff *skb, const struct simnic_action *action)
{
	int base, at;
	u32 old, new;
	u8 proto = 0, want = 0;

	switch (action->mangle.base) {
	case FLOW_ACT_MANGLE_HDR_TYPE_ETH:
		base = 0;
		break;
	case FLOW_ACT_MANGLE_HDR_TYPE_IP4:
	case FLOW_ACT_MANGLE_HDR_TYPE_IP6:
		base = skb_network_offset(skb);
		break;
	default:
		want = action->mangle.base == FLOW_ACT_MANGLE_HDR_TYPE_TCP ? IPPROTO_TCP : IPPROTO_UDP;
		base = layer4(skb, skb_network_offset(skb), skb->protocol, &proto);
		/* Not such a packet: it passes unchanged, as in software. */
		if (base < 0 || proto != want)
			return 0;
	}
	at = base + (int)action->mangle.offset;
	if (at < 0 || at + (int)sizeof(u32) > (int)skb->len)
		return 0;
	if (skb_ensure_writable(skb, at + sizeof(u32)))
		return -ENOMEM;
	old = get_unaligned((u32 *)(skb->data + at));
	new = action->mangle.val;
	if (action->id == FLOW_ACTION_ADD)
		new = (old + action->mangle.val) & ~action->mangle.mask;
	put_unaligned((old & action->mangle.mask) ^ new, (u32 *)(skb->data + at));
	return 0;
}

static __sum16 finish(struct sk_buff *skb, __be16 n_proto, int l3, unsigned int len, u8 proto, __wsum sum)
{
	if (n_proto == htons(ETH_P_IP)) {
		const struct iphdr *ip = (const void *)(skb->data + l3);

		return csum_tcpudp_magic(ip->saddr, ip->daddr, len, proto, sum);
	} else {
		const struct ipv6hdr *ip = (const void *)(skb->data + l3);

		return csum_ipv6_magic(&ip->saddr, &ip->daddr, len, proto, sum);
	}
}

/* The checksum of the layer-4 header at `at`, of a payload that ends at `end`. */
static void checksum4(struct sk_buff *skb, __be16 n_proto, int l3, int at, int end, u8 proto, u32 flags)
{
	unsigned int len = end - at;
	u8 *l4 = skb->data + at;

	if (proto == IPPROTO_TCP && flags & TCA_CSUM_UPDATE_FLAG_TCP && len >= sizeof(struct tcphdr)) {
		struct tcphdr *tcp = (void *)l4;

		tcp->check = 0;
		tcp->check = finish(skb, n_proto, l3, len, proto, csum_partial(l4, len, 0));
	} else if (proto == IPPROTO_UDP && flags & TCA_CSUM_UPDATE_FLAG_UDP && len >= sizeof(struct udphdr)) {
		struct udphdr *udp = (void *)l4;

		if (ntohs(udp->len) != len || (!udp->check && n_proto == htons(ETH_P_IP)))
			return;
		udp->check = 0;
		udp->check = finish(skb, n_proto, l3, len, proto, csum_partial(l4, len, 0)) ?: CSUM_MANGLED_0;
	} else if (proto == IPPROTO_ICMP && flags & TCA_CSUM_UPDATE_FLAG_ICMP && n_proto == htons(ETH_P_IP) &&
		   len >= sizeof(struct icmphdr)) {
		struct icmphdr *icmp = (void *)l4;

		icmp->checksum = 0;
		icmp->checksum = csum_fold(csum_partial(l4, len, 0));
	} else if (proto == IPPROTO_ICMPV6 && flags & TCA_CSUM_UPDATE_FLAG_ICMP && n_proto == htons(ETH_P_IPV6) &&
		   len >= sizeof(struct icmp6hdr)) {
		struct icmp6hdr *icmp = (void *)l4;

		icmp->icmp6_cksum = 0;
		icmp->icmp6_cksum = finish(skb, n_proto, l3, len, proto, csum_partial(l4, len, 0));
	} else if (proto == IPPROTO_SCTP && flags & TCA_CSUM_UPDATE_FLAG_SCTP && len >= sizeof(struct sctphdr)) {
		struct sctphdr *sctp = (void *)l4;

		sctp->checksum = sctp_compute_cksum(skb, at);
	}
}

static int checksum(struct sk_buff *skb, u32 flags)
{
	__be16 n_proto;
	int l3 = layer3(skb, &n_proto), end, at;
	u8 proto;

	if (l3 < 0 || (n_proto != htons(ETH_P_IP) && n_proto != htons(ETH_P_IPV6)))
		return 0;
	if (skb_ensure_writable(skb, skb->len))
		return -ENOMEM;
	at = layer4(skb, l3, n_proto, &proto);
	if (n_proto == htons(ETH_P_IP)) {
		if (skb->len < l3 + sizeof(struct iphdr))
			return -EINVAL;
		end = l3 + ntohs(((struct iphdr *)(skb->data + l3))->tot_len);
	} else {
		if (skb->len < l3 + sizeof(struct ipv6hdr))
			return -EINVAL;
		end = l3 + sizeof(struct ipv6hdr) + ntohs(((struct ipv6hdr *)(skb->data + l3))->payload_len);
	}
	if (end > skb->len)
		return -EINVAL;
	if (at > 0 && at <= end)
		checksum4(skb, n_proto, l3, at, end, proto, flags);
	if (n_proto == htons(ETH_P_IP) && flags & TCA_CSUM_UPDATE_FLAG_IPV4HDR) {
		struct iphdr *ip = (void *)(skb->data + l3);

		if (skb->len < l3 + ip->ihl * 4 || ip->ihl < 5)
			return -EINVAL;
		ip->check = 0;
		ip->check = ip_fast_csum((u8 *)ip, ip->ihl);
	}
	return 0;
}

static __be32 label_entry(struct sk_buff *skb, const struct simnic_action *action)
{
	const struct mpls_shim_hdr *old = NULL;
	u32 lse = 0;

	if (action->id == FLOW_ACTION_MPLS_MANGLE) {
		old = (const void *)(skb->data + skb_network_offset(skb));
		lse = be32_to_cpu(old->label_stack_entry);
	}
	if (action->mpls.label != ACT_MPLS_LABEL_NOT_SET)
		lse = (lse & ~MPLS_LS_LABEL_MASK) | action->mpls.label << MPLS_LS_LABEL_SHIFT;
	if (action->mpls.tc != ACT_MPLS_TC_NOT_SET)
		lse = (lse & ~MPLS_LS_TC_MASK) | action->mpls.tc << MPLS_LS_TC_SHIFT;
	if (action->mpls.ttl)
		lse = (lse & ~MPLS_LS_TTL_MASK) | action->mpls.ttl << MPLS_LS_TTL_SHIFT;
	if (action->mpls.bos != ACT_MPLS_BOS_NOT_SET)
		lse = (lse & ~MPLS_LS_S_MASK) | action->mpls.bos << MPLS_LS_S_SHIFT;
	else if (action->id == FLOW_ACTION_MPLS_PUSH && !eth_p_mpls(skb->protocol))
		lse |= 1 << MPLS_LS_S_SHIFT;
	return cpu_to_be32(lse);
}

static int mpls(struct sk_buff *skb, const struct simnic_action *action)
{
	int mac_len = skb_network_offset(skb);
	int err;

	switch (action->id) {
	case FLOW_ACTION_MPLS_PUSH:
		err = skb_mpls_push(skb, label_entry(skb, action), action->mpls.proto, mac_len, true);
		break;
	case FLOW_ACTION_MPLS_POP:
		err = skb_mpls_pop(skb, action->mpls.proto, mac_len, true);
		break;
	default:
		if (!eth_p_mpls(skb->protocol) || skb->len < mac_len + MPLS_HLEN)
			return -EINVAL;
		err = skb_mpls_update_lse(skb, label_entry(skb, action));
	}
	/* The kernel remembers an inner header for later segmentation, which there is none of here. */
	skb->inner_protocol = 0;
	return err;
}

static int vlan(struct sk_buff *skb, const struct simnic_action *action)
{
	u16 tci = action->vlan.vid | action->vlan.prio << VLAN_PRIO_SHIFT;
	int err;

	switch (action->id) {
	case FLOW_ACTION_VLAN_PUSH:
		return skb_vlan_push(skb, action->vlan.proto, tci);
	case FLOW_ACTION_VLAN_POP:
		return skb_vlan_pop(skb);
	default:
		if (!skb_vlan_tag_present(skb) && !eth_type_vlan(skb->protocol))
			return 0;
		err = skb_vlan_pop(skb);
		return err ?: skb_vlan_push(skb, action->vlan.proto, tci);
	}
}

int simnic_edit(struct sk_buff *skb, const struct simnic_action *action)
{
	switch (action->id) {
	case FLOW_ACTION_MANGLE:
	case FLOW_ACTION_ADD:
		return mangle(skb, action);
	case FLOW_ACTION_CSUM:
		return checksum(skb, action->csum_flags);
	case FLOW_ACTION_VLAN_PUSH:
	case FLOW_ACTION_VLAN_POP:
	case FLOW_ACTION_VLAN_MANGLE:
		return vlan(skb, action);
	case FLOW_ACTION_MPLS_PUSH:
	case FLOW_ACTION_MPLS_POP:
	case FLOW_ACTION_MPLS_MANGLE:
		return mpls(skb, action);
	default:
		return -EOPNOTSUPP;
	}
}

/* Where the checksum of the layer-4 header is that an address change changes too; none if it has none. */
static __sum16 *transport_sum(struct sk_buff *skb, int at, u8 proto)
{
	if (proto == IPPROTO_TCP)
		return &((struct tcphdr *)(skb->data + at))->check;
	if (proto == IPPROTO_UDP && ((struct udphdr *)(skb->data + at))->check)
		return &((struct udphdr *)(skb->data + at))->check;
	return NULL;
}

static void nat_port(struct sk_buff *skb, __be16 *port, __be16 to, __sum16 *sum)
{
	if (sum)
		inet_proto_csum_replace2(sum, skb, *port, to, false);
	*port = to;
}

/* Rewrites addresses and ports as a translated connection asks for. */
int simnic_edit_nat(struct sk_buff *skb, const struct simnic_conn_key *from, const struct simnic_conn_key *to)
{
	int l3 = skb_network_offset(skb), at;
	struct udphdr *ports;
	__sum16 *sum;
	u8 proto;

	if (!memcmp(from, to, sizeof(*from)))
		return 0;
	at = layer4(skb, l3, skb->protocol, &proto);
	if (at < 0 || (proto != IPPROTO_TCP && proto != IPPROTO_UDP))
		return -EINVAL;
	if (skb->len < at + (proto == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr)))
		return -EINVAL;
	if (skb_ensure_writable(skb, at + (proto == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr))))
		return -ENOMEM;
	sum = transport_sum(skb, at, proto);
	if (from->n_proto == htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(skb->data + l3);

		if (sum) {
			inet_proto_csum_replace4(sum, skb, ip->saddr, to->src.s6_addr32[0], true);
			inet_proto_csum_replace4(sum, skb, ip->daddr, to->dst.s6_addr32[0], true);
		}
		csum_replace4(&ip->check, ip->saddr, to->src.s6_addr32[0]);
		csum_replace4(&ip->check, ip->daddr, to->dst.s6_addr32[0]);
		ip->saddr = to->src.s6_addr32[0];
		ip->daddr = to->dst.s6_addr32[0];
	} else {
		struct ipv6hdr *ip = (void *)(skb->data + l3);

		if (sum) {
			inet_proto_csum_replace16(sum, skb, ip->saddr.s6_addr32, to->src.s6_addr32, true);
			inet_proto_csum_replace16(sum, skb, ip->daddr.s6_addr32, to->dst.s6_addr32, true);
		}
		ip->saddr = to->src;
		ip->daddr = to->dst;
	}
	ports = (void *)(skb->data + at);
	nat_port(skb, &ports->source, to->src_port, sum);
	nat_port(skb, &ports->dest, to->dst_port, sum);
	if (sum && proto == IPPROTO_UDP && !*sum)
		*sum = CSUM_MANGLED_0;
	return 0;
}
