//! Groups: versioned as rules are, with counters of the whole and of each bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flow::id::GroupId;
use flow::time::Instant;
use openflow::msg::group::{Bucket, GroupProps, GroupType};

use super::version::{Span, Version};

/// The highest number that a group can have.
pub const MAX_GROUP: GroupId = GroupId(0xffff_ff00);
/// All groups, in delete and statistics requests.
pub const ALL_GROUPS: GroupId = GroupId(0xffff_fffc);

/// How a select group chooses its bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// By the hash that the datapath computes: `buckets[hash & (len - 1)]` is the index of the bucket.
    DpHash { algorithm: u32, basis: u32, buckets: Box<[u16]> },
    /// By a hash of the fields that the group names.
    Fields,
    /// By a hash of addresses and ports, as older versions do.
    Default,
}

/// The most entries of a hash table that serves a group that names no method.
const MAX_DP_HASHES: u64 = 256;
/// `OVS_HASH_ALG_L4` and `OVS_HASH_ALG_SYM_L4`: the hash algorithms of datapaths.
const HASH_L4: u32 = 0;
const HASH_SYM_L4: u32 = 1;

/// Packets and bytes.
#[derive(Debug, Default)]
struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// A group. A modification puts a new one in its place.
#[derive(Debug)]
pub struct Group {
    pub id: GroupId,
    pub kind: GroupType,
    pub props: GroupProps,
    pub buckets: Box<[Bucket]>,
    /// For select groups.
    pub selection: Selection,
    pub created: Instant,
    pub modified: Instant,
    pub(super) span: Span,
    total: Counter,
    each: Box<[Counter]>,
}

impl Group {
    /// A group visible from `version` on.
    pub fn new(
        id: GroupId,
        kind: GroupType,
        props: GroupProps,
        buckets: Vec<Bucket>,
        version: Version,
        now: Instant,
    ) -> Self {
        let selection =
            if kind == GroupType::Select { selection(&props, &buckets) } else { Selection::Default };
        Self {
            id,
            kind,
            props,
            selection,
            created: now,
            modified: now,
            span: Span::since(version),
            total: Counter::default(),
            each: buckets.iter().map(|_| Counter::default()).collect(),
            buckets: buckets.into_boxed_slice(),
        }
    }

    /// Counts packets that went through bucket number `bucket`, or through all of them.
    pub fn credit(&self, bucket: Option<usize>, packets: u64, bytes: u64) {
        self.total.add(packets, bytes);
        for (i, counter) in self.each.iter().enumerate() {
            if bucket.is_none_or(|bucket| bucket == i) {
                counter.add(packets, bytes);
            }
        }
    }

    /// Packets and bytes of the whole.
    pub fn totals(&self) -> (u64, u64) {
        self.total.read()
    }

    /// Packets and bytes of each bucket.
    pub fn bucket_totals(&self) -> impl Iterator<Item = (u64, u64)> {
        self.each.iter().map(Counter::read)
    }
}

/// How a select group picks a bucket, and what is told of that.
pub(super) fn selection(props: &GroupProps, buckets: &[Bucket]) -> Selection {
    let dp_hash = |algorithm, basis, limit| {
        let Some(buckets) = hash_table(buckets, limit) else {
            tracing::debug!(target: "ofproto_dpif", "Falling back to default hash method.");
            return Selection::Default;
        };
        let n = buckets.len();
        tracing::debug!(
            target: "ofproto_dpif",
            "Use dp_hash with {n} hash values using algorithm {algorithm}."
        );
        Selection::DpHash { algorithm, basis, buckets }
    };
    match props.selection_method.as_str() {
        "" => {
            tracing::debug!(target: "ofproto_dpif", "No selection method specified. Trying dp_hash.");
            dp_hash(HASH_SYM_L4, 0, MAX_DP_HASHES)
        }
        "dp_hash" => {
            tracing::debug!(target: "ofproto_dpif", "Selection method specified: dp_hash.");
            let [a, b, c, d, e, f, g, h] = props.selection_method_param.to_be_bytes();
            let algorithm = u32::from_be_bytes([a, b, c, d]);
            let known = if algorithm > HASH_SYM_L4 {
                tracing::debug!(
                    target: "ofproto_dpif",
                    "Invalid dp_hash algorithm {algorithm}. Defaulting to OVS_HASH_ALG_L4"
                );
                HASH_L4
            } else {
                algorithm
            };
            dp_hash(known, u32::from_be_bytes([e, f, g, h]), MAX_DP_HASHES)
        }
        _ => {
            tracing::debug!(target: "ofproto_dpif", "Selection method specified: hash.");
            if props.fields.is_empty() {
                let why = "No hash fields. Falling back to default hash method.";
                tracing::debug!(target: "ofproto_dpif", "{why}");
                Selection::Default
            } else {
                let fields: Vec<_> = props.fields.iter().map(|(field, _)| field.name()).collect();
                tracing::debug!(target: "ofproto_dpif", "Hash fields: {}", fields.join(","));
                Selection::Fields
            }
        }
    }
}

/// Gives each of a power of two of hash values to a bucket, by weight (Webster's method). `None` if no bucket has
/// weight, or if the lightest would need more than `limit` values to get its share.
fn hash_table(buckets: &[Bucket], limit: u64) -> Option<Box<[u16]>> {
    if buckets.is_empty() {
        tracing::debug!(target: "ofproto_dpif", "  Don't apply dp_hash method without buckets.");
        return None;
    }
    let total: u64 = buckets.iter().map(|bucket| u64::from(bucket.weight)).sum();
    let lightest = buckets.iter().map(|bucket| bucket.weight).filter(|&weight| weight > 0).min();
    let Some(lightest) = lightest else {
        tracing::debug!(target: "ofproto_dpif", "  Total weight is zero. No active buckets.");
        return None;
    };
    tracing::debug!(target: "ofproto_dpif", "  Minimum weight: {lightest}, total weight: {total}");
    let fewest = total.div_ceil(lightest.into());
    let wanted = fewest.max(MAX_DP_HASHES.min(4 * u64::try_from(buckets.len()).ok()?));
    let values = wanted.checked_next_power_of_two()?.max(16);
    if values > limit {
        tracing::debug!(target: "ofproto_dpif", "  Too many hash values required: {values}");
        return None;
    }
    tracing::debug!(target: "ofproto_dpif", "  Using {values} hash values:");
    let mut divisors = vec![1u32; buckets.len()];
    let mut scores: Vec<f64> = buckets.iter().map(|bucket| f64::from(bucket.weight)).collect();
    let mut hits = vec![0u32; buckets.len()];
    let mut table = Vec::new();
    for _ in 0..values {
        let mut winner = 0;
        for i in 1..scores.len() {
            if scores[i] > scores[winner] {
                winner = i;
            }
        }
        hits[winner] += 1;
        divisors[winner] += 2;
        scores[winner] = f64::from(buckets[winner].weight) / f64::from(divisors[winner]);
        table.push(u16::try_from(winner).ok()?);
    }
    for (bucket, hits) in buckets.iter().zip(hits) {
        let (id, weight) = (bucket.bucket_id, bucket.weight);
        let target = (values * u64::from(weight)) as f64 / total as f64;
        tracing::debug!(
            target: "ofproto_dpif",
            "  Bucket {id}: weight={weight}, target={target:.2} hits={hits}"
        );
    }
    Some(table.into_boxed_slice())
}

/// The groups of a bridge: at most one of a number is visible in any version.
#[derive(Default)]
pub(super) struct Groups(papaya::HashMap<GroupId, Arc<[Arc<Group>]>>);

impl Groups {
    pub fn find(&self, version: Version, id: GroupId) -> Option<Arc<Group>> {
        let groups = self.0.pin();
        groups.get(&id)?.iter().find(|group| group.span.contains(version)).cloned()
    }

    /// All that are visible in `version`, by number.
    pub fn all(&self, version: Version) -> Vec<Arc<Group>> {
        let groups = self.0.pin();
        let mut all: Vec<_> = groups
            .values()
            .flat_map(|all| all.iter())
            .filter(|group| group.span.contains(version))
            .cloned()
            .collect();
        all.sort_by_key(|group| group.id);
        all
    }

    pub fn insert(&self, group: Arc<Group>) {
        let groups = self.0.pin();
        let others = groups.get(&group.id).into_iter().flat_map(|all| all.iter()).cloned();
        let all = others.chain([Arc::clone(&group)]).collect();
        groups.insert(group.id, all);
    }

    pub fn remove(&self, group: &Arc<Group>) {
        let groups = self.0.pin();
        let Some(all) = groups.get(&group.id) else { return };
        let rest: Arc<[_]> = all.iter().filter(|other| !Arc::ptr_eq(other, group)).cloned().collect();
        if rest.is_empty() {
            groups.remove(&group.id);
        } else {
            groups.insert(group.id, rest);
        }
    }
}
