//! OpenFlow errors: one table of names and of type and code in each version, and the error message both ways.
//!
//! An error exists in some versions only, and there as a standard one or as an extension (Nicira, ONF). Where one
//! version gives a single pair of type and code to two errors, the earlier row is what is decoded.
//! Spec: OpenFlow 1.0 section 5.4.4 to OpenFlow 1.5 section 7.5.4; ONF extension error experimenter messages.

use crate::header::{self, NX_VENDOR, ONF_VENDOR, Raw};
use crate::version::Version;
use crate::wire::Put;
use std::fmt;

/// Where an error has a place: defining body, first and last version, type and code. (An experimenter error of
/// OpenFlow 1.2 and later has a type only.)
struct Place {
    vendor: u32,
    first: Version,
    last: Version,
    kind: u16,
    code: u16,
}

const OF: u32 = 0;
const NX: u32 = NX_VENDOR;
const ONF: u32 = ONF_VENDOR;

/// The type of a Nicira extension error in OpenFlow 1.0 and 1.1, and its code.
const NXET_VENDOR: (u16, u16) = (0xb0c2, 0);
/// The type of an experimenter error from OpenFlow 1.2 on.
const OFPET12_EXPERIMENTER: u16 = 0xffff;

macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident $name:literal [$($vendor:ident $first:ident $last:ident ($kind:literal, $code:literal)),+];)*) => {
        /// An OpenFlow error, independent of version. Named as OVS names them, without `OFP` or `NX`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum OfError {
            $($(#[$doc])* $variant,)*
        }

        impl OfError {
            /// Every error, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }

        static ROWS: &[(&str, &[Place])] = &[
            $(($name, &[$(Place {
                vendor: $vendor, first: Version::$first, last: Version::$last, kind: $kind, code: $code,
            }),+]),)*
        ];
    };
}

errors! {
    HfcIncompatible "OFPHFC_INCOMPATIBLE" [OF V10 V15 (0, 0)];
    HfcEperm "OFPHFC_EPERM" [OF V10 V15 (0, 1)];
    BrcBadVersion "OFPBRC_BAD_VERSION" [OF V10 V15 (1, 0)];
    BrcBadType "OFPBRC_BAD_TYPE" [OF V10 V15 (1, 1)];
    BrcBadStat "OFPBRC_BAD_STAT" [OF V10 V15 (1, 2)];
    BrcBadVendor "OFPBRC_BAD_VENDOR" [OF V10 V15 (1, 3)];
    BrcBadSubtype "OFPBRC_BAD_SUBTYPE" [OF V10 V15 (1, 4)];
    BrcEperm "OFPBRC_EPERM" [OF V10 V15 (1, 5)];
    BrcBadLen "OFPBRC_BAD_LEN" [OF V10 V15 (1, 6)];
    BrcBufferEmpty "OFPBRC_BUFFER_EMPTY" [OF V10 V15 (1, 7)];
    BrcBufferUnknown "OFPBRC_BUFFER_UNKNOWN" [OF V10 V15 (1, 8)];
    BrcBadTableId "OFPBRC_BAD_TABLE_ID" [NX V10 V10 (1, 512), OF V11 V15 (1, 9)];
    BrcIsSecondary "OFPBRC_IS_SECONDARY" [OF V10 V11 (1, 5), OF V12 V15 (1, 10)];
    BrcBadPort "OFPBRC_BAD_PORT" [NX V10 V11 (1, 514), OF V12 V15 (1, 11)];
    BrcBadPacket "OFPBRC_BAD_PACKET" [OF V12 V15 (1, 12)];
    BrcMultipartBufferOverflow "OFPBRC_MULTIPART_BUFFER_OVERFLOW" [OF V13 V15 (1, 13)];
    BrcMultipartRequestTimeout "OFPBRC_MULTIPART_REQUEST_TIMEOUT" [ONF V13 V13 (2640, 0), OF V14 V15 (1, 14)];
    BrcMultipartReplyTimeout "OFPBRC_MULTIPART_REPLY_TIMEOUT" [ONF V13 V13 (2641, 0), OF V14 V15 (1, 15)];
    BrcMultipartBadSched "OFPBRC_MULTIPART_BAD_SCHED" [OF V15 V15 (1, 16)];
    BrcPipelineFieldsOnly "OFPBRC_PIPELINE_FIELDS_ONLY" [OF V15 V15 (1, 17)];
    BrcUnknown "OFPBRC_UNKNOWN" [OF V15 V15 (1, 18)];
    BrcNxmInvalid "NXBRC_NXM_INVALID" [NX V10 V11 (1, 256), NX V12 V15 (2, 0)];
    BrcNxmBadType "NXBRC_NXM_BAD_TYPE" [NX V10 V11 (1, 257), NX V12 V15 (3, 0)];
    BrcMustBeZero "NXBRC_MUST_BE_ZERO" [NX V10 V11 (1, 515), NX V12 V15 (4, 0)];
    BrcBadReason "NXBRC_BAD_REASON" [NX V10 V11 (1, 516), NX V12 V15 (5, 0)];
    BrcFmBadEvent "NXBRC_FM_BAD_EVENT" [NX V10 V11 (1, 520), NX V12 V15 (9, 0)];
    BrcUnencodableError "NXBRC_UNENCODABLE_ERROR" [NX V10 V11 (1, 521), NX V12 V15 (10, 0)];
    BacBadType "OFPBAC_BAD_TYPE" [OF V10 V15 (2, 0)];
    BacBadLen "OFPBAC_BAD_LEN" [OF V10 V15 (2, 1)];
    BacBadVendor "OFPBAC_BAD_VENDOR" [OF V10 V15 (2, 2)];
    BacBadVendorType "OFPBAC_BAD_VENDOR_TYPE" [OF V10 V15 (2, 3)];
    BacBadOutPort "OFPBAC_BAD_OUT_PORT" [OF V10 V15 (2, 4)];
    BacBadArgument "OFPBAC_BAD_ARGUMENT" [OF V10 V15 (2, 5)];
    BacEperm "OFPBAC_EPERM" [OF V10 V15 (2, 6)];
    BacTooMany "OFPBAC_TOO_MANY" [OF V10 V15 (2, 7)];
    BacBadQueue "OFPBAC_BAD_QUEUE" [OF V10 V15 (2, 8)];
    BacBadOutGroup "OFPBAC_BAD_OUT_GROUP" [NX V10 V10 (2, 9), OF V11 V15 (2, 9)];
    BacMatchInconsistent "OFPBAC_MATCH_INCONSISTENT" [NX V10 V10 (1, 522), OF V11 V15 (2, 10)];
    BacUnsupportedOrder "OFPBAC_UNSUPPORTED_ORDER" [OF V11 V15 (2, 11)];
    BacBadTag "OFPBAC_BAD_TAG" [OF V11 V15 (2, 12)];
    BacBadSetType "OFPBAC_BAD_SET_TYPE" [NX V10 V11 (1, 523), OF V12 V15 (2, 13)];
    BacBadSetLen "OFPBAC_BAD_SET_LEN" [NX V10 V11 (1, 524), OF V12 V15 (2, 14)];
    BacBadSetArgument "OFPBAC_BAD_SET_ARGUMENT" [NX V10 V11 (1, 525), OF V12 V15 (2, 15)];
    BacBadSetMask "OFPBAC_BAD_SET_MASK" [ONF V13 V14 (4250, 0), OF V15 V15 (2, 16)];
    BacBadMeter "OFPBAC_BAD_METER" [OF V15 V15 (2, 17)];
    BacMustBeZero "NXBAC_MUST_BE_ZERO" [NX V10 V11 (2, 256), NX V12 V15 (11, 0)];
    BacBadConjunction "NXBAC_BAD_CONJUNCTION" [NX V10 V11 (2, 526), NX V12 V15 (15, 0)];
    BacBadHeaderType "NXBAC_BAD_HEADER_TYPE" [NX V13 V15 (39, 0)];
    BacUnknownEdProp "NXBAC_UNKNOWN_ED_PROP" [NX V13 V15 (40, 0)];
    BacBadEdProp "NXBAC_BAD_ED_PROP" [NX V13 V15 (41, 0)];
    BacCtDatapathSupport "NXBAC_CT_DATAPATH_SUPPORT" [NX V10 V11 (1, 265), NX V12 V15 (42, 0)];
    BicUnknownInst "OFPBIC_UNKNOWN_INST" [OF V11 V15 (3, 0)];
    BicUnsupInst "OFPBIC_UNSUP_INST" [NX V10 V10 (2, 257), OF V11 V15 (3, 1)];
    BicBadTableId "OFPBIC_BAD_TABLE_ID" [OF V11 V15 (3, 2)];
    BicUnsupMetadata "OFPBIC_UNSUP_METADATA" [OF V11 V15 (3, 3)];
    BicUnsupMetadataMask "OFPBIC_UNSUP_METADATA_MASK" [OF V11 V15 (3, 4)];
    BicBadExperimenter "OFPBIC_BAD_EXPERIMENTER" [OF V11 V15 (3, 5)];
    BicBadExpType "OFPBIC_BAD_EXP_TYPE" [OF V11 V11 (3, 5), OF V12 V15 (3, 6)];
    BicBadLen "OFPBIC_BAD_LEN" [OF V12 V15 (3, 7)];
    BicEperm "OFPBIC_EPERM" [OF V12 V15 (3, 8)];
    BicDupInst "OFPBIC_DUP_INST" [NX V11 V11 (3, 256), ONF V12 V13 (2600, 0), OF V14 V15 (3, 9)];
    BmcBadType "OFPBMC_BAD_TYPE" [OF V11 V15 (4, 0)];
    BmcBadLen "OFPBMC_BAD_LEN" [OF V11 V15 (4, 1)];
    BmcBadTag "OFPBMC_BAD_TAG" [OF V11 V15 (4, 2)];
    BmcBadDlAddrMask "OFPBMC_BAD_DL_ADDR_MASK" [OF V11 V15 (4, 3)];
    BmcBadNwAddrMask "OFPBMC_BAD_NW_ADDR_MASK" [OF V11 V15 (4, 4)];
    BmcBadWildcards "OFPBMC_BAD_WILDCARDS" [NX V10 V10 (1, 262), OF V11 V15 (4, 5)];
    BmcBadField "OFPBMC_BAD_FIELD" [NX V10 V10 (0, 263), OF V11 V15 (4, 6)];
    BmcBadValue "OFPBMC_BAD_VALUE" [NX V10 V10 (1, 258), OF V11 V15 (4, 7)];
    BmcBadMask "OFPBMC_BAD_MASK" [NX V10 V11 (1, 259), OF V12 V15 (4, 8)];
    BmcBadPrereq "OFPBMC_BAD_PREREQ" [NX V10 V11 (1, 260), OF V12 V15 (4, 9)];
    BmcDupField "OFPBMC_DUP_FIELD" [NX V10 V11 (1, 261), OF V12 V15 (4, 10)];
    BmcEperm "OFPBMC_EPERM" [OF V12 V15 (4, 11)];
    BmcCtDatapathSupport "NXBMC_CT_DATAPATH_SUPPORT" [NX V10 V11 (1, 264), NX V12 V15 (43, 0)];
    FmfcUnknown "OFPFMFC_UNKNOWN" [OF V11 V15 (5, 0)];
    FmfcTableFull "OFPFMFC_TABLE_FULL" [OF V10 V10 (3, 0), OF V11 V15 (5, 1)];
    FmfcBadTableId "OFPFMFC_BAD_TABLE_ID" [OF V11 V15 (5, 2)];
    FmfcOverlap "OFPFMFC_OVERLAP" [OF V10 V10 (3, 1), OF V11 V15 (5, 3)];
    FmfcEperm "OFPFMFC_EPERM" [OF V10 V10 (3, 2), OF V11 V15 (5, 4)];
    FmfcBadTimeout "OFPFMFC_BAD_TIMEOUT" [OF V11 V15 (5, 5)];
    FmfcBadEmergTimeout "OFPFMFC_BAD_EMERG_TIMEOUT" [OF V10 V10 (3, 3)];
    FmfcBadCommand "OFPFMFC_BAD_COMMAND" [OF V10 V10 (3, 4), OF V11 V15 (5, 6)];
    FmfcBadFlags "OFPFMFC_BAD_FLAGS" [NX V10 V10 (3, 258), NX V11 V11 (5, 258), OF V12 V15 (5, 7)];
    FmfcCantSync "OFPFMFC_CANT_SYNC" [OF V14 V15 (5, 8)];
    FmfcBadPriority "OFPFMFC_BAD_PRIORITY" [ONF V13 V13 (2360, 0), OF V14 V15 (5, 9)];
    FmfcIsSync "OFPFMFC_IS_SYNC" [OF V14 V15 (5, 10)];
    FmfcUnsupported "OFPFMFC_UNSUPPORTED" [OF V10 V10 (3, 5)];
    FmfcHardware "NXFMFC_HARDWARE" [NX V10 V11 (5, 256), NX V12 V15 (12, 0)];
    NxFmfcBadTableId "NXFMFC_BAD_TABLE_ID" [NX V10 V11 (5, 257), NX V12 V15 (13, 0)];
    FmfcInvalidTlvField "NXFMFC_INVALID_TLV_FIELD" [NX V10 V11 (1, 536), NX V12 V15 (37, 0)];
    GmfcGroupExists "OFPGMFC_GROUP_EXISTS" [NX V10 V10 (6, 0), OF V11 V15 (6, 0)];
    GmfcInvalidGroup "OFPGMFC_INVALID_GROUP" [NX V10 V10 (6, 1), OF V11 V15 (6, 1)];
    GmfcWeightUnsupported "OFPGMFC_WEIGHT_UNSUPPORTED" [NX V10 V10 (6, 2), OF V11 V15 (6, 2)];
    GmfcOutOfGroups "OFPGMFC_OUT_OF_GROUPS" [NX V10 V10 (6, 3), OF V11 V15 (6, 3)];
    GmfcOutOfBuckets "OFPGMFC_OUT_OF_BUCKETS" [NX V10 V10 (6, 4), OF V11 V15 (6, 4)];
    GmfcChainingUnsupported "OFPGMFC_CHAINING_UNSUPPORTED" [NX V10 V10 (6, 5), OF V11 V15 (6, 5)];
    GmfcWatchUnsupported "OFPGMFC_WATCH_UNSUPPORTED" [NX V10 V10 (6, 6), OF V11 V15 (6, 6)];
    GmfcLoop "OFPGMFC_LOOP" [NX V10 V10 (6, 7), OF V11 V15 (6, 7)];
    GmfcUnknownGroup "OFPGMFC_UNKNOWN_GROUP" [NX V10 V10 (6, 8), OF V11 V15 (6, 8)];
    GmfcChainedGroup "OFPGMFC_CHAINED_GROUP" [NX V10 V10 (6, 9), OF V12 V15 (6, 9)];
    GmfcBadType "OFPGMFC_BAD_TYPE" [NX V10 V10 (6, 10), OF V12 V15 (6, 10)];
    GmfcBadCommand "OFPGMFC_BAD_COMMAND" [NX V10 V10 (6, 11), OF V12 V15 (6, 11)];
    GmfcBadBucket "OFPGMFC_BAD_BUCKET" [NX V10 V10 (6, 12), OF V12 V15 (6, 12)];
    GmfcBadWatch "OFPGMFC_BAD_WATCH" [NX V10 V10 (6, 13), OF V12 V15 (6, 13)];
    GmfcEperm "OFPGMFC_EPERM" [NX V10 V10 (6, 14), OF V12 V15 (6, 14)];
    GmfcUnknownBucket "OFPGMFC_UNKNOWN_BUCKET" [NX V10 V10 (6, 15), OF V15 V15 (6, 15)];
    GmfcBucketExists "OFPGMFC_BUCKET_EXISTS" [NX V10 V10 (6, 16), OF V15 V15 (6, 16)];
    PmfcBadPort "OFPPMFC_BAD_PORT" [OF V10 V10 (4, 0), OF V11 V15 (7, 0)];
    PmfcBadHwAddr "OFPPMFC_BAD_HW_ADDR" [OF V10 V10 (4, 1), OF V11 V15 (7, 1)];
    PmfcBadConfig "OFPPMFC_BAD_CONFIG" [OF V11 V15 (7, 2)];
    PmfcBadAdvertise "OFPPMFC_BAD_ADVERTISE" [OF V11 V15 (7, 3)];
    PmfcEperm "OFPPMFC_EPERM" [OF V12 V15 (7, 4)];
    TmfcBadTable "OFPTMFC_BAD_TABLE" [OF V11 V15 (8, 0)];
    TmfcBadConfig "OFPTMFC_BAD_CONFIG" [OF V11 V15 (8, 1)];
    TmfcEperm "OFPTMFC_EPERM" [OF V12 V15 (8, 2)];
    QofcBadPort "OFPQOFC_BAD_PORT" [OF V10 V10 (5, 0), OF V11 V15 (9, 0)];
    QofcBadQueue "OFPQOFC_BAD_QUEUE" [OF V10 V10 (5, 1), OF V11 V15 (9, 1)];
    QofcEperm "OFPQOFC_EPERM" [OF V10 V10 (5, 2), OF V11 V15 (9, 2)];
    QofcQueueError "NXQOFC_QUEUE_ERROR" [NX V14 V15 (23, 0)];
    ScfcBadFlags "OFPSCFC_BAD_FLAGS" [OF V11 V15 (10, 0)];
    ScfcBadLen "OFPSCFC_BAD_LEN" [OF V11 V15 (10, 1)];
    ScfcEperm "OFPSCFC_EPERM" [OF V12 V15 (10, 2)];
    RrfcStale "OFPRRFC_STALE" [OF V12 V15 (11, 0)];
    RrfcUnsup "OFPRRFC_UNSUP" [OF V12 V15 (11, 1)];
    RrfcBadRole "OFPRRFC_BAD_ROLE" [NX V10 V11 (1, 513), OF V12 V15 (11, 2)];
    RrfcIdUnsup "OFPRRFC_ID_UNSUP" [OF V15 V15 (11, 3)];
    RrfcIdInUse "OFPRRFC_ID_IN_USE" [OF V15 V15 (11, 4)];
    MmfcUnknown "OFPMMFC_UNKNOWN" [OF V13 V15 (12, 0)];
    MmfcMeterExists "OFPMMFC_METER_EXISTS" [OF V13 V15 (12, 1)];
    MmfcInvalidMeter "OFPMMFC_INVALID_METER" [OF V13 V15 (12, 2)];
    MmfcUnknownMeter "OFPMMFC_UNKNOWN_METER" [OF V13 V15 (12, 3)];
    MmfcBadCommand "OFPMMFC_BAD_COMMAND" [OF V13 V15 (12, 4)];
    MmfcBadFlags "OFPMMFC_BAD_FLAGS" [OF V13 V15 (12, 5)];
    MmfcBadRate "OFPMMFC_BAD_RATE" [OF V13 V15 (12, 6)];
    MmfcBadBurst "OFPMMFC_BAD_BURST" [OF V13 V15 (12, 7)];
    MmfcBadBand "OFPMMFC_BAD_BAND" [OF V13 V15 (12, 8)];
    MmfcBadBandValue "OFPMMFC_BAD_BAND_VALUE" [OF V13 V15 (12, 9)];
    MmfcOutOfMeters "OFPMMFC_OUT_OF_METERS" [OF V13 V15 (12, 10)];
    MmfcOutOfBands "OFPMMFC_OUT_OF_BANDS" [OF V13 V15 (12, 11)];
    TffcBadTable "OFPTFFC_BAD_TABLE" [OF V13 V15 (13, 0)];
    TffcBadMetadata "OFPTFFC_BAD_METADATA" [OF V13 V15 (13, 1)];
    TffcEperm "OFPTFFC_EPERM" [OF V13 V15 (13, 5)];
    TffcBadCapa "OFPTFFC_BAD_CAPA" [OF V15 V15 (13, 6)];
    TffcBadMaxEnt "OFPTFFC_BAD_MAX_ENT" [OF V15 V15 (13, 7)];
    TffcBadFeatures "OFPTFFC_BAD_FEATURES" [OF V15 V15 (13, 8)];
    TffcBadCommand "OFPTFFC_BAD_COMMAND" [OF V15 V15 (13, 9)];
    TffcTooMany "OFPTFFC_TOO_MANY" [OF V15 V15 (13, 10)];
    TffcDupTable "NXTFFC_DUP_TABLE" [NX V13 V15 (44, 0)];
    BpcBadType "OFPBPC_BAD_TYPE" [NX V10 V11 (13, 2), NX V12 V12 (25, 0), OF V13 V13 (13, 2), OF V14 V15 (14, 0)];
    BpcBadLen "OFPBPC_BAD_LEN" [NX V10 V11 (13, 3), NX V12 V12 (26, 0), OF V13 V13 (13, 3), OF V14 V15 (14, 1)];
    BpcBadValue "OFPBPC_BAD_VALUE" [NX V10 V11 (13, 4), NX V12 V12 (27, 0), OF V13 V13 (13, 4), OF V14 V15 (14, 2)];
    BpcTooMany "OFPBPC_TOO_MANY" [NX V10 V11 (14, 3), NX V12 V12 (28, 0), ONF V13 V13 (4443, 0), OF V14 V15 (14, 3)];
    BpcDupType "OFPBPC_DUP_TYPE" [NX V10 V11 (14, 4), NX V12 V12 (29, 0), ONF V13 V13 (4444, 0), OF V14 V15 (14, 4)];
    BpcBadExperimenter "OFPBPC_BAD_EXPERIMENTER" [NX V10 V11 (14, 5), NX V12 V12 (30, 0), ONF V13 V13 (4445, 0), OF V14 V15 (14, 5)];
    BpcBadExpType "OFPBPC_BAD_EXP_TYPE" [NX V10 V11 (14, 6), NX V12 V12 (31, 0), ONF V13 V13 (4446, 0), OF V14 V15 (14, 6)];
    BpcBadExpValue "OFPBPC_BAD_EXP_VALUE" [NX V10 V11 (14, 7), NX V12 V12 (32, 0), ONF V13 V13 (4447, 0), OF V14 V15 (14, 7)];
    BpcEperm "OFPBPC_EPERM" [NX V10 V11 (14, 8), NX V12 V12 (33, 0), ONF V13 V13 (4448, 0), OF V14 V15 (14, 8)];
    AcfcInvalid "OFPACFC_INVALID" [ONF V13 V13 (2370, 0), OF V14 V15 (15, 0)];
    AcfcUnsupported "OFPACFC_UNSUPPORTED" [ONF V13 V13 (2371, 0), OF V14 V15 (15, 1)];
    AcfcEperm "OFPACFC_EPERM" [ONF V13 V13 (2372, 0), OF V14 V15 (15, 2)];
    BfcUnknown "OFPBFC_UNKNOWN" [ONF V13 V13 (2300, 0), OF V14 V15 (17, 0)];
    BfcEperm "OFPBFC_EPERM" [ONF V13 V13 (2301, 0), OF V14 V15 (17, 1)];
    BfcBadId "OFPBFC_BAD_ID" [ONF V13 V13 (2302, 0), OF V14 V15 (17, 2)];
    BfcBundleExist "OFPBFC_BUNDLE_EXIST" [ONF V13 V13 (2303, 0), OF V14 V15 (17, 3)];
    BfcBundleClosed "OFPBFC_BUNDLE_CLOSED" [ONF V13 V13 (2304, 0), OF V14 V15 (17, 4)];
    BfcOutOfBundles "OFPBFC_OUT_OF_BUNDLES" [ONF V13 V13 (2305, 0), OF V14 V15 (17, 5)];
    BfcBadType "OFPBFC_BAD_TYPE" [ONF V13 V13 (2306, 0), OF V14 V15 (17, 6)];
    BfcBadFlags "OFPBFC_BAD_FLAGS" [ONF V13 V13 (2307, 0), OF V14 V15 (17, 7)];
    BfcMsgBadLen "OFPBFC_MSG_BAD_LEN" [ONF V13 V13 (2308, 0), OF V14 V15 (17, 8)];
    BfcMsgBadXid "OFPBFC_MSG_BAD_XID" [ONF V13 V13 (2309, 0), OF V14 V15 (17, 9)];
    BfcMsgUnsup "OFPBFC_MSG_UNSUP" [ONF V13 V13 (2310, 0), OF V14 V15 (17, 10)];
    BfcMsgConflict "OFPBFC_MSG_CONFLICT" [ONF V13 V13 (2311, 0), OF V14 V15 (17, 11)];
    BfcMsgTooMany "OFPBFC_MSG_TOO_MANY" [ONF V13 V13 (2312, 0), OF V14 V15 (17, 12)];
    BfcMsgFailed "OFPBFC_MSG_FAILED" [ONF V13 V13 (2313, 0), OF V14 V15 (17, 13)];
    BfcTimeout "OFPBFC_TIMEOUT" [ONF V13 V13 (2314, 0), OF V14 V15 (17, 14)];
    BfcBundleInProgress "OFPBFC_BUNDLE_IN_PROGRESS" [ONF V13 V13 (2315, 0), OF V14 V15 (17, 15)];
    BfcSchedNotSupported "OFPBFC_SCHED_NOT_SUPPORTED" [OF V15 V15 (17, 16)];
    BfcSchedFuture "OFPBFC_SCHED_FUTURE" [OF V15 V15 (17, 17)];
    BfcSchedPast "OFPBFC_SCHED_PAST" [OF V15 V15 (17, 18)];
    BfcBadVersion "OFPBFC_BAD_VERSION" [NX V14 V15 (22, 0)];
    MofcUnknown "OFPMOFC_UNKNOWN" [OF V14 V15 (16, 0)];
    MofcMonitorExists "OFPMOFC_MONITOR_EXISTS" [NX V10 V11 (1, 517), NX V12 V13 (6, 0), OF V14 V15 (16, 1)];
    MofcInvalidMonitor "OFPMOFC_INVALID_MONITOR" [OF V14 V15 (16, 2)];
    MofcUnknownMonitor "OFPMOFC_UNKNOWN_MONITOR" [NX V10 V11 (1, 519), NX V12 V13 (8, 0), OF V14 V15 (16, 3)];
    MofcBadCommand "OFPMOFC_BAD_COMMAND" [OF V14 V15 (16, 4)];
    MofcBadFlags "OFPMOFC_BAD_FLAGS" [NX V10 V11 (1, 518), NX V12 V13 (7, 0), OF V14 V15 (16, 5)];
    MofcBadTableId "OFPMOFC_BAD_TABLE_ID" [OF V14 V15 (16, 6)];
    MofcBadOut "OFPMOFC_BAD_OUT" [OF V14 V15 (16, 7)];
    TtmfcBadCommand "NXTTMFC_BAD_COMMAND" [NX V10 V11 (1, 527), NX V12 V15 (16, 0)];
    TtmfcBadOptLen "NXTTMFC_BAD_OPT_LEN" [NX V10 V11 (1, 528), NX V12 V15 (17, 0)];
    TtmfcBadFieldIdx "NXTTMFC_BAD_FIELD_IDX" [NX V10 V11 (1, 529), NX V12 V15 (18, 0)];
    TtmfcTableFull "NXTTMFC_TABLE_FULL" [NX V10 V11 (1, 530), NX V12 V15 (19, 0)];
    TtmfcAlreadyMapped "NXTTMFC_ALREADY_MAPPED" [NX V10 V11 (1, 531), NX V12 V15 (20, 0)];
    TtmfcDupEntry "NXTTMFC_DUP_ENTRY" [NX V10 V11 (1, 532), NX V12 V15 (21, 0)];
    TtmfcInvalidTlvDel "NXTTMFC_INVALID_TLV_DEL" [NX V10 V11 (1, 537), NX V12 V15 (38, 0)];
    RNotSupported "NXR_NOT_SUPPORTED" [NX V10 V11 (1, 533), NX V12 V15 (34, 0)];
    RStale "NXR_STALE" [NX V10 V11 (1, 534), NX V12 V15 (35, 0)];
    StNotConfigured "NXST_NOT_CONFIGURED" [NX V10 V11 (1, 535), NX V12 V15 (36, 0)];
}

impl OfError {
    /// OVS's name, such as `OFPBRC_BAD_LEN`.
    pub fn name(self) -> &'static str {
        ROWS[self as usize].0
    }

    /// The error of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| error.name() == name)
    }

    /// Defining body (0: OpenFlow itself), type and code in `version`, if the error exists there.
    pub fn wire(self, version: Version) -> Option<(u32, u16, u16)> {
        let mut places = ROWS[self as usize].1.iter();
        let place = places.find(|place| (place.first..=place.last).contains(&version))?;
        Some((place.vendor, place.kind, place.code))
    }

    /// The error with that defining body, type and code in `version`.
    pub fn from_wire(version: Version, vendor: u32, kind: u16, code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| error.wire(version) == Some((vendor, kind, code)))
    }

    /// An error message in `version` that carries `data`, in answer to the message with `xid`. An error that the
    /// version lacks goes as `NXBRC_UNENCODABLE_ERROR`.
    pub fn encode(self, version: Version, xid: u32, data: &[u8]) -> Vec<u8> {
        let (vendor, kind, code) = self.wire(version).unwrap_or_else(|| {
            tracing::error!(target: "ofp_errors", "cannot encode {self} for {}", spoken(version));
            Self::BrcUnencodableError.wire(version).expect("every version has NXBRC_UNENCODABLE_ERROR")
        });
        let mut msg = header::start(Raw::OfptError, version, xid);
        if vendor == OF {
            msg.u16(kind).u16(code);
        } else if version <= Version::V11 {
            msg.u16(NXET_VENDOR.0).u16(NXET_VENDOR.1).u32(vendor).u16(kind).u16(code);
        } else {
            msg.u16(OFPET12_EXPERIMENTER).u16(kind).u32(vendor);
        }
        let room = usize::from(u16::MAX) - msg.len();
        msg.bytes(&data[..data.len().min(room)]);
        header::finish(&mut msg);
        msg
    }

    /// The error message that answers `request`, a whole message; it carries the request.
    pub fn reply_to(self, request: &[u8]) -> Vec<u8> {
        let version = request.first().and_then(|&byte| Version::from_wire(byte)).unwrap_or(Version::V10);
        self.encode(version, header::xid(request), request)
    }

    /// Decodes an error message, header included: the error and the payload. `None` for an unknown error.
    pub fn decode(msg: &[u8]) -> Option<(Self, &[u8])> {
        let version = Version::from_wire(*msg.first()?)?;
        let mut body = header::body(msg).ok()?;
        let (mut kind, mut code, mut vendor) = (body.u16().ok()?, body.u16().ok()?, OF);
        if (kind, code) == NXET_VENDOR {
            vendor = body.u32().ok()?;
            (kind, code) = (body.u16().ok()?, body.u16().ok()?);
        } else if kind == OFPET12_EXPERIMENTER {
            vendor = body.u32().ok()?;
            (kind, code) = (code, 0);
        }
        Some((Self::from_wire(version, vendor, kind, code)?, body.rest()))
    }
}

/// `OpenFlow 1.3`.
fn spoken(version: Version) -> String {
    format!("OpenFlow 1.{}", version.wire() - 1)
}

impl fmt::Display for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for OfError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_goes_both_ways_in_every_version_that_has_it() {
        for &error in OfError::ALL {
            assert_eq!(OfError::from_name(error.name()), Some(error));
            for version in Version::ALL {
                let Some(wire) = error.wire(version) else { continue };
                let first =
                    OfError::from_wire(version, wire.0, wire.1, wire.2).expect("there is one at least");
                assert_eq!(first.wire(version), Some(wire));
                let msg = error.encode(version, 7, b"payload");
                assert_eq!(OfError::decode(&msg), Some((first, &b"payload"[..])));
            }
        }
    }

    #[test]
    fn extension_errors_have_their_own_form() {
        let msg = OfError::BrcBadTableId.encode(Version::V10, 1, &[]);
        assert_eq!(msg, [1, 1, 0, 20, 0, 0, 0, 1, 0xb0, 0xc2, 0, 0, 0, 0, 0x23, 0x20, 0, 1, 2, 0]);
        let msg = OfError::BfcUnknown.encode(Version::V13, 1, &[]);
        assert_eq!(msg, [4, 1, 0, 16, 0, 0, 0, 1, 0xff, 0xff, 8, 0xfc, 0x4f, 0x4e, 0x46, 0]);
    }

    #[test]
    fn an_error_that_the_version_lacks_is_unencodable() {
        let msg = OfError::MmfcUnknownMeter.encode(Version::V10, 1, &[]);
        assert_eq!(OfError::decode(&msg), Some((OfError::BrcUnencodableError, &[][..])));
    }
}
