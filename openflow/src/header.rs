//! OpenFlow message headers, and the one table of message formats.
//!
//! A message is named by its version and type; a statistics ("multipart") message by its statistic, too; an
//! extension message by vendor and subtype. A [`Raw`] is one format of body; formats with one meaning share a
//! [`Type`]. The table says, for each format, in which versions it exists, its number, the size of its fixed body,
//! and what the rest must be a multiple of (0: there is no rest).
//! Spec: OpenFlow 1.0 section 5.1 to OpenFlow 1.5 section 7.1; `nicira-ext.h`.

use crate::error::OfError;
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use std::ops::RangeInclusive;

/// Nicira's vendor (experimenter) id.
pub const NX_VENDOR: u32 = 0x0000_2320;
/// The Open Networking Foundation's experimenter id.
pub const ONF_VENDOR: u32 = 0x4f4e_4600;
/// Length of the plain header.
pub const LEN: usize = 8;
/// The flag of a statistics reply (or of a request, from OpenFlow 1.3 on) that is not the last part.
pub const MORE: u16 = 1;

const OFPT_VENDOR: u8 = 4;
const OFPST_VENDOR: u16 = 0xffff;

/// How a format is numbered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// `type` of the header.
    Oft,
    /// `type` of a statistics message.
    OfStatRequest,
    OfStatReply,
    /// Subtype of a Nicira message, of a Nicira statistics message.
    Nxt,
    NxStatRequest,
    NxStatReply,
    /// Subtype of an ONF message, of an ONF statistics message.
    Onft,
    OnfStatRequest,
    OnfStatReply,
}

impl Class {
    fn vendor(self) -> u32 {
        match self {
            Self::Oft | Self::OfStatRequest | Self::OfStatReply => 0,
            Self::Nxt | Self::NxStatRequest | Self::NxStatReply => NX_VENDOR,
            Self::Onft | Self::OnfStatRequest | Self::OnfStatReply => ONF_VENDOR,
        }
    }

    fn is_stat(self) -> bool {
        !matches!(self, Self::Oft | Self::Nxt | Self::Onft)
    }

    fn is_reply(self) -> bool {
        matches!(self, Self::OfStatReply | Self::NxStatReply | Self::OnfStatReply)
    }
}

/// What the headers of a message say, whether we know the message or not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Numbers {
    version: u8,
    kind: u8,
    stat: u16,
    vendor: u32,
    subtype: u32,
}

/// One row of the table.
struct Format {
    kind: Type,
    class: Class,
    versions: RangeInclusive<u8>,
    number: u32,
    /// Bytes of body that are always there.
    body: usize,
    /// What the remaining length must be a multiple of; 0 for none allowed.
    unit: usize,
    name: &'static str,
}

macro_rules! formats {
    (types { $($kind:ident),* $(,)? }
     $($raw:ident $of:ident $class:ident $first:literal..=$last:literal $number:literal $body:literal $unit:literal $name:literal;)*) => {
        /// What a message means, whatever its format.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Type { $($kind),* }

        /// One format of message: the digits in its name are the OpenFlow version that brought it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Raw { $($raw),* }

        impl Raw {
            /// Every format.
            pub const ALL: &'static [Self] = &[$(Self::$raw),*];
        }

        static FORMATS: &[Format] = &[$(Format {
            kind: Type::$of, class: Class::$class, versions: $first..=$last, number: $number, body: $body,
            unit: $unit, name: $name,
        }),*];
    };
}

formats! {
    types {
        Hello, Error, EchoRequest, EchoReply, FeaturesRequest, FeaturesReply, GetConfigRequest,
        GetConfigReply, SetConfig, PacketIn, FlowRemoved, PortStatus, PacketOut, FlowMod, GroupMod, PortMod,
        TableMod, BarrierRequest, BarrierReply, QueueGetConfigRequest, QueueGetConfigReply, RoleRequest,
        RoleReply, GetAsyncRequest, GetAsyncReply, SetAsyncConfig, MeterMod, RoleStatus, TableStatus,
        RequestForward, BundleControl, BundleAddMessage, DescStatsRequest, DescStatsReply, FlowStatsRequest,
        FlowStatsReply, AggregateStatsRequest, AggregateStatsReply, TableStatsRequest, TableStatsReply,
        PortStatsRequest, PortStatsReply, QueueStatsRequest, QueueStatsReply, GroupStatsRequest,
        GroupStatsReply, GroupDescStatsRequest, GroupDescStatsReply, GroupFeaturesStatsRequest,
        GroupFeaturesStatsReply, MeterStatsRequest, MeterStatsReply, MeterConfigStatsRequest,
        MeterConfigStatsReply, MeterFeaturesStatsRequest, MeterFeaturesStatsReply,
        TableFeaturesStatsRequest, TableFeaturesStatsReply, TableDescRequest, TableDescReply,
        PortDescStatsRequest, PortDescStatsReply, FlowMonitorStatsRequest, FlowMonitorStatsReply,
        FlowMonitorCancel, FlowMonitorPaused, FlowMonitorResumed, SetFlowFormat, FlowModTableId,
        SetPacketInFormat, FlowAge, SetControllerId, NxtTlvTableMod, NxtTlvTableRequest, NxtTlvTableReply,
        NxtResume, CtFlushZone, CtFlush, IpfixBridgeStatsRequest, IpfixBridgeStatsReply,
        IpfixFlowStatsRequest, IpfixFlowStatsReply,
    }
    OfptHello                   Hello                     Oft              0..=255     0     0  1 "OFPT_HELLO";
    OfptError                   Error                     Oft              0..=255     1     4  1 "OFPT_ERROR";
    OfptEchoRequest             EchoRequest               Oft              0..=255     2     0  1 "OFPT_ECHO_REQUEST";
    OfptEchoReply               EchoReply                 Oft              0..=255     3     0  1 "OFPT_ECHO_REPLY";
    OfptFeaturesRequest         FeaturesRequest           Oft              1..=6       5     0  0 "OFPT_FEATURES_REQUEST";
    Ofpt10FeaturesReply         FeaturesReply             Oft              1..=1       6    24 48 "OFPT_FEATURES_REPLY";
    Ofpt11FeaturesReply         FeaturesReply             Oft              2..=3       6    24 64 "OFPT_FEATURES_REPLY";
    Ofpt13FeaturesReply         FeaturesReply             Oft              4..=6       6    24  0 "OFPT_FEATURES_REPLY";
    OfptGetConfigRequest        GetConfigRequest          Oft              1..=6       7     0  0 "OFPT_GET_CONFIG_REQUEST";
    OfptGetConfigReply          GetConfigReply            Oft              1..=6       8     4  0 "OFPT_GET_CONFIG_REPLY";
    OfptSetConfig               SetConfig                 Oft              1..=6       9     4  0 "OFPT_SET_CONFIG";
    Ofpt10PacketIn              PacketIn                  Oft              1..=1      10    10  1 "OFPT_PACKET_IN";
    Ofpt11PacketIn              PacketIn                  Oft              2..=2      10    16  1 "OFPT_PACKET_IN";
    Ofpt12PacketIn              PacketIn                  Oft              3..=3      10     8  1 "OFPT_PACKET_IN";
    Ofpt13PacketIn              PacketIn                  Oft              4..=6      10    16  1 "OFPT_PACKET_IN";
    NxtPacketIn                 PacketIn                  Nxt              1..=6      17    24  1 "NXT_PACKET_IN";
    NxtPacketIn2                PacketIn                  Nxt              1..=6      30     0  8 "NXT_PACKET_IN2";
    Ofpt10FlowRemoved           FlowRemoved               Oft              1..=1      11    80  0 "OFPT_FLOW_REMOVED";
    Ofpt11FlowRemoved           FlowRemoved               Oft              2..=5      11    40  8 "OFPT_FLOW_REMOVED";
    Ofpt15FlowRemoved           FlowRemoved               Oft              6..=6      11    16  8 "OFPT_FLOW_REMOVED";
    NxtFlowRemoved              FlowRemoved               Nxt              1..=6      14    40  8 "NXT_FLOW_REMOVED";
    Ofpt10PortStatus            PortStatus                Oft              1..=1      12    56  0 "OFPT_PORT_STATUS";
    Ofpt11PortStatus            PortStatus                Oft              2..=4      12    72  0 "OFPT_PORT_STATUS";
    Ofpt14PortStatus            PortStatus                Oft              5..=6      12    48  8 "OFPT_PORT_STATUS";
    Ofpt10PacketOut             PacketOut                 Oft              1..=1      13     8  1 "OFPT_PACKET_OUT";
    Ofpt11PacketOut             PacketOut                 Oft              2..=5      13    16  1 "OFPT_PACKET_OUT";
    Ofpt15PacketOut             PacketOut                 Oft              6..=6      13     8  1 "OFPT_PACKET_OUT";
    Ofpt10FlowMod               FlowMod                   Oft              1..=1      14    64  8 "OFPT_FLOW_MOD";
    Ofpt11FlowMod               FlowMod                   Oft              2..=6      14    40  8 "OFPT_FLOW_MOD";
    NxtFlowMod                  FlowMod                   Nxt              1..=6      13    32  8 "NXT_FLOW_MOD";
    NxtGroupMod                 GroupMod                  Nxt              1..=1      31    16  8 "NXT_GROUP_MOD";
    Ofpt11GroupMod              GroupMod                  Oft              2..=5      15     8  8 "OFPT_GROUP_MOD";
    Ofpt15GroupMod              GroupMod                  Oft              6..=6      15    16  8 "OFPT_GROUP_MOD";
    Ofpt10PortMod               PortMod                   Oft              1..=1      15    24  0 "OFPT_PORT_MOD";
    Ofpt11PortMod               PortMod                   Oft              2..=4      16    32  0 "OFPT_PORT_MOD";
    Ofpt14PortMod               PortMod                   Oft              5..=6      16    24  8 "OFPT_PORT_MOD";
    Ofpt11TableMod              TableMod                  Oft              2..=4      17     8  0 "OFPT_TABLE_MOD";
    Ofpt14TableMod              TableMod                  Oft              5..=6      17     8  8 "OFPT_TABLE_MOD";
    Ofpt10BarrierRequest        BarrierRequest            Oft              1..=1      18     0  0 "OFPT_BARRIER_REQUEST";
    Ofpt11BarrierRequest        BarrierRequest            Oft              2..=6      20     0  0 "OFPT_BARRIER_REQUEST";
    Ofpt10BarrierReply          BarrierReply              Oft              1..=1      19     0  0 "OFPT_BARRIER_REPLY";
    Ofpt11BarrierReply          BarrierReply              Oft              2..=6      21     0  0 "OFPT_BARRIER_REPLY";
    Ofpt10QueueGetConfigRequest QueueGetConfigRequest     Oft              1..=1      20     4  0 "OFPT_QUEUE_GET_CONFIG_REQUEST";
    Ofpt11QueueGetConfigRequest QueueGetConfigRequest     Oft              2..=4      22     8  0 "OFPT_QUEUE_GET_CONFIG_REQUEST";
    Ofpt10QueueGetConfigReply   QueueGetConfigReply       Oft              1..=1      21     8  8 "OFPT_QUEUE_GET_CONFIG_REPLY";
    Ofpt11QueueGetConfigReply   QueueGetConfigReply       Oft              2..=4      23     8  8 "OFPT_QUEUE_GET_CONFIG_REPLY";
    Ofpt12RoleRequest           RoleRequest               Oft              3..=6      24    16  0 "OFPT_ROLE_REQUEST";
    NxtRoleRequest              RoleRequest               Nxt              1..=6      10     4  0 "NXT_ROLE_REQUEST";
    Ofpt12RoleReply             RoleReply                 Oft              3..=6      25    16  0 "OFPT_ROLE_REPLY";
    NxtRoleReply                RoleReply                 Nxt              1..=6      11     4  0 "NXT_ROLE_REPLY";
    Ofpt13GetAsyncRequest       GetAsyncRequest           Oft              4..=4      26     0  0 "OFPT_GET_ASYNC_REQUEST";
    Ofpt14GetAsyncRequest       GetAsyncRequest           Oft              5..=6      26     0  0 "OFPT_GET_ASYNC_REQUEST";
    Ofpt13GetAsyncReply         GetAsyncReply             Oft              4..=4      27    24  0 "OFPT_GET_ASYNC_REPLY";
    Ofpt14GetAsyncReply         GetAsyncReply             Oft              5..=6      27     0  8 "OFPT_GET_ASYNC_REPLY";
    Ofpt13SetAsync              SetAsyncConfig            Oft              4..=4      28    24  0 "OFPT_SET_ASYNC";
    NxtSetAsyncConfig           SetAsyncConfig            Nxt              1..=6      19    24  0 "NXT_SET_ASYNC_CONFIG";
    NxtSetAsyncConfig2          SetAsyncConfig            Nxt              1..=4      27     0  8 "NXT_SET_ASYNC_CONFIG2";
    Ofpt14SetAsync              SetAsyncConfig            Oft              5..=6      28     0  8 "OFPT_SET_ASYNC";
    Ofpt13MeterMod              MeterMod                  Oft              4..=6      29     8  8 "OFPT_METER_MOD";
    Onft13RoleStatus            RoleStatus                Onft             4..=4    1911    16  8 "ONFT_ROLE_STATUS";
    Ofpt14RoleStatus            RoleStatus                Oft              5..=6      30    16  8 "OFPT_ROLE_STATUS";
    Ofpt14TableStatus           TableStatus               Oft              5..=6      31     8  8 "OFPT_TABLE_STATUS";
    NxtRequestForward           RequestForward            Nxt              1..=3     132     8  8 "NXT_REQUESTFORWARD";
    Onft13RequestForward        RequestForward            Onft             4..=4    2350     8  8 "ONFT_REQUESTFORWARD";
    Ofpt14RequestForward        RequestForward            Oft              5..=6      32     8  8 "OFPT_REQUESTFORWARD";
    Ofpt14BundleControl         BundleControl             Oft              5..=6      33     8  8 "OFPT_BUNDLE_CONTROL";
    Onft13BundleControl         BundleControl             Onft             4..=4    2300     8  8 "ONFT_BUNDLE_CONTROL";
    Ofpt14BundleAddMessage      BundleAddMessage          Oft              5..=6      34     8  1 "OFPT_BUNDLE_ADD_MESSAGE";
    Onft13BundleAddMessage      BundleAddMessage          Onft             4..=4    2301     8  1 "ONFT_BUNDLE_ADD_MESSAGE";
    OfpstDescRequest            DescStatsRequest          OfStatRequest    1..=6       0     0  0 "OFPST_DESC request";
    OfpstDescReply              DescStatsReply            OfStatReply      1..=6       0  1056  0 "OFPST_DESC reply";
    Ofpst10FlowRequest          FlowStatsRequest          OfStatRequest    1..=1       1    44  0 "OFPST_FLOW request";
    Ofpst11FlowRequest          FlowStatsRequest          OfStatRequest    2..=6       1    32  8 "OFPST_FLOW request";
    NxstFlowRequest             FlowStatsRequest          NxStatRequest    1..=1       0     8  8 "NXST_FLOW request";
    Ofpst10FlowReply            FlowStatsReply            OfStatReply      1..=1       1     0  1 "OFPST_FLOW reply";
    Ofpst11FlowReply            FlowStatsReply            OfStatReply      2..=3       1     0  1 "OFPST_FLOW reply";
    Ofpst13FlowReply            FlowStatsReply            OfStatReply      4..=5       1     0  1 "OFPST_FLOW reply";
    Ofpst15FlowReply            FlowStatsReply            OfStatReply      6..=6       1     0  1 "OFPST_FLOW reply";
    NxstFlowReply               FlowStatsReply            NxStatReply      1..=1       0     0  1 "NXST_FLOW reply";
    Ofpst10AggregateRequest     AggregateStatsRequest     OfStatRequest    1..=1       2    44  0 "OFPST_AGGREGATE request";
    Ofpst11AggregateRequest     AggregateStatsRequest     OfStatRequest    2..=5       2    32  8 "OFPST_AGGREGATE request";
    Ofpst15AggregateRequest     AggregateStatsRequest     OfStatRequest    6..=6       2    32  8 "OFPST_AGGREGATE request";
    NxstAggregateRequest        AggregateStatsRequest     NxStatRequest    1..=1       1     8  8 "NXST_AGGREGATE request";
    OfpstAggregateReply         AggregateStatsReply       OfStatReply      1..=5       2    24  0 "OFPST_AGGREGATE reply";
    Ofpst15AggregateReply       AggregateStatsReply       OfStatReply      6..=6       2     0  1 "OFPST_AGGREGATE reply";
    NxstAggregateReply          AggregateStatsReply       NxStatReply      1..=1       1    24  0 "NXST_AGGREGATE reply";
    OfpstTableRequest           TableStatsRequest         OfStatRequest    1..=6       3     0  0 "OFPST_TABLE request";
    Ofpst10TableReply           TableStatsReply           OfStatReply      1..=1       3     0 64 "OFPST_TABLE reply";
    Ofpst11TableReply           TableStatsReply           OfStatReply      2..=2       3     0 88 "OFPST_TABLE reply";
    Ofpst12TableReply           TableStatsReply           OfStatReply      3..=3       3     0 128 "OFPST_TABLE reply";
    Ofpst13TableReply           TableStatsReply           OfStatReply      4..=6       3     0 24 "OFPST_TABLE reply";
    Ofpst10PortRequest          PortStatsRequest          OfStatRequest    1..=1       4     8  0 "OFPST_PORT request";
    Ofpst11PortRequest          PortStatsRequest          OfStatRequest    2..=6       4     8  0 "OFPST_PORT request";
    Ofpst10PortReply            PortStatsReply            OfStatReply      1..=1       4     0 104 "OFPST_PORT reply";
    Ofpst11PortReply            PortStatsReply            OfStatReply      2..=3       4     0 104 "OFPST_PORT reply";
    Ofpst13PortReply            PortStatsReply            OfStatReply      4..=4       4     0 112 "OFPST_PORT reply";
    Ofpst14PortReply            PortStatsReply            OfStatReply      5..=6       4     0  8 "OFPST_PORT reply";
    Ofpst10QueueRequest         QueueStatsRequest         OfStatRequest    1..=1       5     8  0 "OFPST_QUEUE request";
    Ofpst11QueueRequest         QueueStatsRequest         OfStatRequest    2..=6       5     8  0 "OFPST_QUEUE request";
    Ofpst10QueueReply           QueueStatsReply           OfStatReply      1..=1       5     0 32 "OFPST_QUEUE reply";
    Ofpst11QueueReply           QueueStatsReply           OfStatReply      2..=3       5     0 32 "OFPST_QUEUE reply";
    Ofpst13QueueReply           QueueStatsReply           OfStatReply      4..=4       5     0 40 "OFPST_QUEUE reply";
    Ofpst14QueueReply           QueueStatsReply           OfStatReply      5..=6       5     0  8 "OFPST_QUEUE reply";
    NxstGroupRequest            GroupStatsRequest         NxStatRequest    1..=1       7     8  0 "NXST_GROUP request";
    Ofpst11GroupRequest         GroupStatsRequest         OfStatRequest    2..=6       6     8  0 "OFPST_GROUP request";
    NxstGroupReply              GroupStatsReply           NxStatReply      1..=1       7     0  8 "NXST_GROUP reply";
    Ofpst11GroupReply           GroupStatsReply           OfStatReply      2..=3       6     0  8 "OFPST_GROUP reply";
    Ofpst13GroupReply           GroupStatsReply           OfStatReply      4..=6       6     0  8 "OFPST_GROUP reply";
    NxstGroupDescRequest        GroupDescStatsRequest     NxStatRequest    1..=1       8     8  0 "NXST_GROUP_DESC request";
    Ofpst11GroupDescRequest     GroupDescStatsRequest     OfStatRequest    2..=5       7     0  0 "OFPST_GROUP_DESC request";
    Ofpst15GroupDescRequest     GroupDescStatsRequest     OfStatRequest    6..=6       7     8  0 "OFPST_GROUP_DESC request";
    NxstGroupDescReply          GroupDescStatsReply       NxStatReply      1..=1       8     0  8 "NXST_GROUP_DESC reply";
    Ofpst11GroupDescReply       GroupDescStatsReply       OfStatReply      2..=6       7     0  8 "OFPST_GROUP_DESC reply";
    NxstGroupFeaturesRequest    GroupFeaturesStatsRequest NxStatRequest    1..=2       9     0  0 "NXST_GROUP_FEATURES request";
    Ofpst12GroupFeaturesRequest GroupFeaturesStatsRequest OfStatRequest    3..=6       8     0  0 "OFPST_GROUP_FEATURES request";
    NxstGroupFeaturesReply      GroupFeaturesStatsReply   NxStatReply      1..=2       9    40  0 "NXST_GROUP_FEATURES reply";
    Ofpst12GroupFeaturesReply   GroupFeaturesStatsReply   OfStatReply      3..=6       8    40  0 "OFPST_GROUP_FEATURES reply";
    Ofpst13MeterRequest         MeterStatsRequest         OfStatRequest    4..=6       9     8  0 "OFPST_METER request";
    Ofpst13MeterReply           MeterStatsReply           OfStatReply      4..=6       9     0  8 "OFPST_METER reply";
    Ofpst13MeterConfigRequest   MeterConfigStatsRequest   OfStatRequest    4..=6      10     8  0 "OFPST_METER_CONFIG request";
    Ofpst13MeterConfigReply     MeterConfigStatsReply     OfStatReply      4..=6      10     0  8 "OFPST_METER_CONFIG reply";
    Ofpst13MeterFeaturesRequest MeterFeaturesStatsRequest OfStatRequest    4..=6      11     0  0 "OFPST_METER_FEATURES request";
    Ofpst13MeterFeaturesReply   MeterFeaturesStatsReply   OfStatReply      4..=6      11    16  0 "OFPST_METER_FEATURES reply";
    Ofpst13TableFeaturesRequest TableFeaturesStatsRequest OfStatRequest    4..=6      12     0  8 "OFPST_TABLE_FEATURES request";
    Ofpst13TableFeaturesReply   TableFeaturesStatsReply   OfStatReply      4..=6      12    64  8 "OFPST_TABLE_FEATURES reply";
    Ofpst14TableDescRequest     TableDescRequest          OfStatRequest    5..=6      14     0  0 "OFPST_TABLE_DESC request";
    Ofpst14TableDescReply       TableDescReply            OfStatReply      5..=6      14     8  8 "OFPST_TABLE_DESC reply";
    Ofpst10PortDescRequest      PortDescStatsRequest      OfStatRequest    1..=5      13     0  0 "OFPST_PORT_DESC request";
    Ofpst15PortDescRequest      PortDescStatsRequest      OfStatRequest    6..=6      13     8  0 "OFPST_PORT_DESC request";
    Ofpst10PortDescReply        PortDescStatsReply        OfStatReply      1..=1      13     0 48 "OFPST_PORT_DESC reply";
    Ofpst11PortDescReply        PortDescStatsReply        OfStatReply      2..=4      13     0 64 "OFPST_PORT_DESC reply";
    Ofpst14PortDescReply        PortDescStatsReply        OfStatReply      5..=6      13     0  8 "OFPST_PORT_DESC reply";
    Ofpst14QueueDescRequest     QueueGetConfigRequest     OfStatRequest    5..=6      15     8  0 "OFPST_QUEUE_DESC request";
    Ofpst14QueueDescReply       QueueGetConfigReply       OfStatReply      5..=6      15     0  8 "OFPST_QUEUE_DESC reply";
    Ofpst14FlowMonitorRequest   FlowMonitorStatsRequest   OfStatRequest    5..=6      16     0  8 "OFPST_FLOW_MONITOR request";
    Onfst13FlowMonitorRequest   FlowMonitorStatsRequest   OnfStatRequest   4..=4    1870     0  8 "ONFST_FLOW_MONITOR request";
    NxstFlowMonitorRequest      FlowMonitorStatsRequest   NxStatRequest    1..=3       2     0  8 "NXST_FLOW_MONITOR request";
    Ofpst14FlowMonitorReply     FlowMonitorStatsReply     OfStatReply      5..=6      16     0  8 "OFPST_FLOW_MONITOR reply";
    Onfst13FlowMonitorReply     FlowMonitorStatsReply     OnfStatReply     4..=4    1870     0  8 "ONFST_FLOW_MONITOR reply";
    NxstFlowMonitorReply        FlowMonitorStatsReply     NxStatReply      1..=3       2     0  8 "NXST_FLOW_MONITOR reply";
    Onft13FlowMonitorCancel     FlowMonitorCancel         Onft             4..=4    1870     4  0 "ONFT_FLOW_MONITOR_CANCEL";
    NxtFlowMonitorCancel        FlowMonitorCancel         Nxt              1..=3      21     4  0 "NXT_FLOW_MONITOR_CANCEL";
    Onft13FlowMonitorPaused     FlowMonitorPaused         Onft             4..=4    1871     0  0 "ONFT_FLOW_MONITOR_PAUSED";
    NxtFlowMonitorPaused        FlowMonitorPaused         Nxt              1..=3      22     0  0 "NXT_FLOW_MONITOR_PAUSED";
    Onft13FlowMonitorResumed    FlowMonitorResumed        Onft             4..=4    1872     0  0 "ONFT_FLOW_MONITOR_RESUMED";
    NxtFlowMonitorResumed       FlowMonitorResumed        Nxt              1..=3      23     0  0 "NXT_FLOW_MONITOR_RESUMED";
    NxtSetFlowFormat            SetFlowFormat             Nxt              1..=1      12     4  0 "NXT_SET_FLOW_FORMAT";
    NxtFlowModTableId           FlowModTableId            Nxt              1..=6      15     8  0 "NXT_FLOW_MOD_TABLE_ID";
    NxtSetPacketInFormat        SetPacketInFormat         Nxt              1..=6      16     4  0 "NXT_SET_PACKET_IN_FORMAT";
    NxtFlowAge                  FlowAge                   Nxt              1..=6      18     0  0 "NXT_FLOW_AGE";
    NxtSetControllerId          SetControllerId           Nxt              1..=6      20     8  0 "NXT_SET_CONTROLLER_ID";
    NxtTlvTableMod              NxtTlvTableMod            Nxt              1..=6      24     8  8 "NXT_TLV_TABLE_MOD";
    NxtTlvTableRequest          NxtTlvTableRequest        Nxt              1..=6      25     0  0 "NXT_TLV_TABLE_REQUEST";
    NxtTlvTableReply            NxtTlvTableReply          Nxt              1..=6      26    16  8 "NXT_TLV_TABLE_REPLY";
    NxtResume                   NxtResume                 Nxt              1..=6      28     0  8 "NXT_RESUME";
    NxtCtFlushZone              CtFlushZone               Nxt              1..=6      29     8  0 "NXT_CT_FLUSH_ZONE";
    NxtCtFlush                  CtFlush                   Nxt              1..=6      32     8  8 "NXT_CT_FLUSH";
    NxstIpfixBridgeRequest      IpfixBridgeStatsRequest   NxStatRequest    1..=6       3     0  0 "NXST_IPFIX_BRIDGE request";
    NxstIpfixBridgeReply        IpfixBridgeStatsReply     NxStatReply      1..=6       3    88  0 "NXST_IPFIX_BRIDGE reply";
    NxstIpfixFlowRequest        IpfixFlowStatsRequest     NxStatRequest    1..=6       4     0  0 "NXST_IPFIX_FLOW request";
    NxstIpfixFlowReply          IpfixFlowStatsReply       NxStatReply      1..=6       4     0 88 "NXST_IPFIX_FLOW reply";
}

/// The number of a statistics request in `version`; a reply's is one more.
fn stat_request(version: u8) -> u8 {
    if version == 1 { 16 } else { 18 }
}

impl Numbers {
    /// Reads the headers; only as many bytes need be there as they are long.
    fn read(msg: &[u8]) -> Result<Self, OfError> {
        let mut reader = Reader::new(msg);
        let mut numbers = Self { version: reader.u8()?, kind: reader.u8()?, ..Self::default() };
        reader.skip(LEN - 2)?;
        let v10 = numbers.version == 1;
        if numbers.kind == OFPT_VENDOR {
            numbers.vendor = reader.u32()?;
            numbers.subtype = reader.u32()?;
        } else if numbers.is_stat() {
            numbers.stat = reader.u16()?;
            reader.skip(if v10 { 2 } else { 6 })?;
            if numbers.stat == OFPST_VENDOR {
                numbers.vendor = reader.u32()?;
                let known = numbers.vendor == NX_VENDOR || (!v10 && numbers.vendor == ONF_VENDOR);
                if known || !v10 {
                    numbers.subtype = reader.u32()?;
                }
                if v10 && known {
                    reader.skip(4)?;
                }
            }
        } else {
            return Ok(numbers);
        }
        let onf = !(v10 && numbers.is_stat());
        if numbers.vendor == NX_VENDOR || (onf && numbers.vendor == ONF_VENDOR) || !numbers.is_extension() {
            return Ok(numbers);
        }
        tracing::warn!(target: "ofp_msgs", "OpenFlow message has unknown vendor {:#x}", numbers.vendor);
        Err(OfError::BrcBadVendor)
    }

    fn is_stat(&self) -> bool {
        Version::from_wire(self.version).is_some()
            && (self.kind == stat_request(self.version) || self.kind == stat_request(self.version) + 1)
    }

    fn is_extension(&self) -> bool {
        self.kind == OFPT_VENDOR || (self.is_stat() && self.stat == OFPST_VENDOR)
    }

    /// The length of all the headers.
    fn len(&self) -> usize {
        let v10 = self.version == 1;
        match (self.is_stat(), self.is_extension()) {
            (false, false) => LEN,
            (false, true) => 16,
            (true, false) if v10 => 12,
            (true, false) => 16,
            (true, true) => 24,
        }
    }

    /// The format that has these numbers.
    fn raw(&self) -> Result<Raw, OfError> {
        let known = Raw::ALL
            .iter()
            .find(|raw| raw.format().versions.contains(&self.version) && raw.numbers(self.version) == *self);
        known.copied().ok_or_else(|| self.unknown())
    }

    fn unknown(&self) -> OfError {
        let mut what = format!("version {}, type {}", self.version, self.kind);
        if self.is_stat() {
            what += &format!(", stat {}", self.stat);
        }
        if self.vendor != 0 {
            what += &format!(", vendor 0x{:x}, subtype {}", self.vendor, self.subtype);
        }
        tracing::warn!(target: "ofp_msgs", "unknown OpenFlow message ({what})");
        if self.vendor != 0 {
            OfError::BrcBadSubtype
        } else if self.is_stat() {
            OfError::BrcBadStat
        } else {
            OfError::BrcBadType
        }
    }
}

impl Raw {
    fn format(self) -> &'static Format {
        &FORMATS[self as usize]
    }

    /// The name that OVS prints, such as `OFPST_FLOW reply`.
    pub fn name(self) -> &'static str {
        self.format().name
    }

    /// What a message of this format means.
    pub fn kind(self) -> Type {
        self.format().kind
    }

    /// Whether the format exists in `version`.
    pub fn exists_in(self, version: Version) -> bool {
        self.format().versions.contains(&version.wire())
    }

    /// Whether this is a statistics ("multipart") request or reply.
    pub fn is_stat(self) -> bool {
        self.format().class.is_stat()
    }

    /// Whether this is a statistics reply.
    pub fn is_stat_reply(self) -> bool {
        self.format().class.is_reply()
    }

    /// The reply's format for this statistics request.
    pub fn stat_reply(self, version: Version) -> Option<Self> {
        let mut numbers = self.numbers(version.wire());
        if !self.is_stat() || self.is_stat_reply() {
            return None;
        }
        numbers.kind += 1;
        Self::ALL.iter().copied().find(|raw| raw.exists_in(version) && raw.numbers(version.wire()) == numbers)
    }

    fn numbers(self, version: u8) -> Numbers {
        let Format { class, number, .. } = self.format();
        let narrow = || u8::try_from(*number).expect("types of the table are below 256");
        let mut numbers = Numbers { version, vendor: class.vendor(), ..Numbers::default() };
        numbers.kind = match class {
            Class::Oft => narrow(),
            Class::Nxt | Class::Onft => OFPT_VENDOR,
            _ if class.is_reply() => stat_request(version) + 1,
            _ => stat_request(version),
        };
        match class {
            Class::Oft => {}
            Class::OfStatRequest | Class::OfStatReply => numbers.stat = u16::from(narrow()),
            _ => numbers.subtype = *number,
        }
        if class.is_stat() && numbers.vendor != 0 {
            numbers.stat = OFPST_VENDOR;
        }
        numbers
    }

    /// Whether a message may be `len` bytes long, of which the headers are `headers`.
    fn check_len(self, headers: usize, len: usize) -> Result<(), OfError> {
        let Format { name, body, unit, .. } = self.format();
        let least = headers + body;
        let (good, want) = match unit {
            0 => (len == least, format!("expected length {least}")),
            1 => (len >= least, format!("expected length at least {least} bytes")),
            _ => (
                len >= least && (len - least).is_multiple_of(*unit),
                format!("must be exactly {least} bytes or longer by an integer multiple of {unit} bytes"),
            ),
        };
        if good {
            return Ok(());
        }
        tracing::warn!(target: "ofp_msgs", "received {name} with incorrect length {len} ({want})");
        Err(OfError::BrcBadLen)
    }
}

/// A message's headers, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub raw: Raw,
    /// The version byte. Hello, error and echo exist in every version, known to us or not.
    pub version: u8,
    pub xid: u32,
    /// Flags of a statistics message, else 0; see [`MORE`].
    pub flags: u16,
    /// Where the body begins.
    pub len: usize,
}

impl Header {
    /// Reads the headers of `msg`, one whole message, and checks its length. The reader is at the body.
    pub fn parse(msg: &[u8]) -> Result<(Self, Reader<'_>), OfError> {
        let header = Self::peek(msg)?;
        header.raw.check_len(header.len, msg.len())?;
        Ok((header, Reader::new(&msg[header.len..])))
    }

    /// Reads the headers of a message that may be cut off: its length is not checked.
    pub fn peek(msg: &[u8]) -> Result<Self, OfError> {
        let numbers = Numbers::read(msg)?;
        let raw = numbers.raw()?;
        let flags = if numbers.is_stat() { u16::from_be_bytes([msg[10], msg[11]]) } else { 0 };
        Ok(Self { raw, version: numbers.version, xid: xid(msg), flags, len: numbers.len() })
    }

    /// The version, if it is one of ours.
    pub fn version(&self) -> Result<Version, OfError> {
        Version::from_wire(self.version).ok_or(OfError::BrcBadVersion)
    }

    /// What the message means.
    pub fn kind(&self) -> Type {
        self.raw.kind()
    }
}

/// A reader of the body of `msg`, one whole message, whose length is checked.
pub fn body(msg: &[u8]) -> Result<Reader<'_>, OfError> {
    Header::parse(msg).map(|(_, body)| body)
}

/// The transaction id of a message; 0 if it is too short to have one.
pub fn xid(msg: &[u8]) -> u32 {
    msg.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The length that a message's header states; 0 if it is too short to state one.
pub fn stated_len(msg: &[u8]) -> usize {
    msg.get(2..4).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

/// A new message: its headers. Put the body after them and call [`finish`].
///
/// # Panics
/// If the format does not exist in `version`: which one exists is the caller's choice, never the peer's.
pub fn start(raw: Raw, version: Version, xid: u32) -> Vec<u8> {
    assert!(raw.exists_in(version), "{} does not exist in {version}", raw.name());
    let numbers = raw.numbers(version.wire());
    let mut msg = Vec::with_capacity(numbers.len() + raw.format().body);
    msg.u8(numbers.version).u8(numbers.kind).u16(0).u32(xid);
    if numbers.is_stat() {
        msg.u16(numbers.stat).u16(0).zeros(if version == Version::V10 { 0 } else { 4 });
    }
    if numbers.is_extension() {
        msg.u32(numbers.vendor).u32(numbers.subtype);
        if numbers.is_stat() && version == Version::V10 {
            msg.zeros(4);
        }
    }
    msg
}

/// Writes a message's length into its header.
///
/// # Panics
/// If the message is 64 kB or longer.
pub fn finish(msg: &mut [u8]) {
    let len = u16::try_from(msg.len()).expect("a message is below 64 kB");
    set_u16(msg, 2, len);
}

/// A message without a body.
pub fn bare(raw: Raw, version: Version, xid: u32) -> Vec<u8> {
    let mut msg = start(raw, version, xid);
    finish(&mut msg);
    msg
}

/// Statistics replies under construction: a series of messages of less than 64 kB, all but the last flagged
/// [`MORE`].
#[derive(Clone, Debug)]
pub struct Multipart {
    raw: Raw,
    version: Version,
    xid: u32,
    done: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Multipart {
    /// An empty series of `raw`.
    pub fn new(raw: Raw, version: Version, xid: u32) -> Self {
        Self { raw, version, xid, done: Vec::new(), last: start(raw, version, xid) }
    }

    /// The replies to the statistics request with `request` as its header.
    pub fn reply_to(request: &Header) -> Result<Self, OfError> {
        let version = request.version()?;
        let raw = request.raw.stat_reply(version).ok_or(OfError::BrcBadStat)?;
        Ok(Self::new(raw, version, request.xid))
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn raw(&self) -> Raw {
        self.raw
    }

    /// Appends one entry, which is never divided. Entries too long for any message are left out.
    pub fn push(&mut self, entry: &[u8]) {
        if self.last.len() + entry.len() > usize::from(u16::MAX) {
            let fresh = start(self.raw, self.version, self.xid);
            if fresh.len() + entry.len() > usize::from(u16::MAX) {
                tracing::warn!(target: "ofp_msgs", "{}: entry of {} bytes left out", self.raw.name(), entry.len());
                return;
            }
            let mut full = std::mem::replace(&mut self.last, fresh);
            set_u16(&mut full, 10, MORE);
            finish(&mut full);
            self.done.push(full);
        }
        self.last.extend_from_slice(entry);
    }

    /// How many bytes have been put in whole messages; what is in the last one does not count.
    pub fn take_full(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.done)
    }

    /// The whole series.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        finish(&mut self.last);
        self.done.push(self.last);
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_unique_and_go_both_ways() {
        for &raw in Raw::ALL {
            for version in Version::ALL.into_iter().filter(|&version| raw.exists_in(version)) {
                let mut msg = start(raw, version, 0x1234_5678);
                msg.zeros(raw.format().body);
                finish(&mut msg);
                let (header, body) = Header::parse(&msg).expect("it is of least length");
                assert_eq!((header.raw, header.version()), (raw, Ok(version)));
                assert_eq!((header.xid, body.len()), (0x1234_5678, raw.format().body));
            }
        }
    }

    #[test]
    fn every_statistics_request_has_a_reply() {
        for &raw in Raw::ALL {
            for version in Version::ALL.into_iter().filter(|&version| raw.exists_in(version)) {
                let reply = raw.stat_reply(version);
                assert_eq!(
                    reply.is_some(),
                    raw.is_stat() && !raw.is_stat_reply(),
                    "{} {version}",
                    raw.name()
                );
                if let Some(reply) = reply {
                    assert_eq!(reply.name(), raw.name().replace("request", "reply"));
                }
            }
        }
    }

    #[test]
    fn long_replies_are_divided_between_entries() {
        let mut replies = Multipart::new(Raw::Ofpst13FlowReply, Version::V13, 9);
        for n in 0..3 {
            replies.push(&[n; 30_000]);
        }
        let parts = replies.finish();
        let seen: Vec<_> =
            parts.iter().map(|part| (stated_len(part), Header::peek(part).map(|h| h.flags))).collect();
        assert_eq!(seen, [(60_016, Ok(MORE)), (30_016, Ok(0))]);
    }

    #[test]
    fn unknown_messages_have_their_errors() {
        let error = |msg: &[u8]| Header::parse(msg).map(|(header, _)| header.raw).unwrap_err();
        assert_eq!(error(&[]), OfError::BrcBadLen);
        assert_eq!(error(&[1, 0xbb, 0, 8, 0, 0, 0, 0]), OfError::BrcBadType);
        assert_eq!(error(&[1, 16, 0, 12, 0, 0, 0, 0, 0x12, 0x34, 0, 0]), OfError::BrcBadStat);
        assert_eq!(error(&[1, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 1]), OfError::BrcBadVendor);
        assert_eq!(error(&[1, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0x23, 0x20, 0, 1, 0, 1]), OfError::BrcBadSubtype);
        assert_eq!(error(&[4, 6, 0, 8, 0, 0, 0, 0]), OfError::BrcBadLen);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(msg in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Header::parse(&msg);
            let _ = OfError::decode(&msg);
        }
    }
}
