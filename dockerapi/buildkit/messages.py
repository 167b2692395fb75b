"""The messages of BuildKit's services: a table of members by number and type, made into classes by protobuf.

A message on the wire has numbers and no names, so that the names of messages here are our own, and one package has
them all. Paths of files are bytes: they need not be UTF-8.

Sources: moby/buildkit's and fsutil's published descriptions (control, gateway, worker, caps, filesync, auth, secrets,
sshforward, upload, stat, wire), and containerd's (content).
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

DecodeError: Final = message.DecodeError

_TABLE: Final = """
Time: 1 seconds int64, 2 nanos int32
Bytes: 1 data bytes
Empty:
Definition: 1 def *bytes

SolveRequest: 1 Ref string, 2 Definition Definition, 3 Exporter string, 4 ExporterAttrs map, 5 Session string,
    6 Frontend string, 7 FrontendAttrs map, 8 Cache CacheOptions, 9 Entitlements *string,
    10 FrontendInputs map:Definition, 11 Internal bool, 12 SourcePolicy Definition, 13 Exporters *Exporter
Exporter: 1 Type string, 2 Attrs map
CacheOptions: 1 ExportRef string, 2 ImportRefs *string, 3 ExportAttrs map, 4 Exports *CacheEntry, 5 Imports *CacheEntry
CacheEntry: 1 Type string, 2 Attrs map
SolveResponse: 1 ExporterResponse map

StatusRequest: 1 Ref string
StatusResponse: 1 vertices *Vertex, 2 statuses *VertexStatus, 3 logs *VertexLog, 4 warnings *VertexWarning
Vertex: 1 digest string, 2 inputs *string, 3 name string, 4 cached bool, 5 started Time, 6 completed Time,
    7 error string
VertexStatus: 1 ID string, 2 vertex string, 3 name string, 4 current int64, 5 total int64, 6 timestamp Time,
    7 started Time, 8 completed Time
VertexLog: 1 vertex string, 2 timestamp Time, 3 stream int64, 4 msg bytes
VertexWarning: 1 vertex string, 2 level int64, 3 short bytes, 4 detail *bytes, 5 url string, 6 info SourceInfo,
    7 ranges *Range
SourceInfo: 1 filename string, 2 data bytes, 4 language string
Range: 1 start Position, 2 end Position
Position: 1 line int32, 2 character int32

ListWorkersRequest: 1 filter *string
ListWorkersResponse: 1 record *Worker
Worker: 1 ID string, 2 Labels map, 3 platforms *Platform, 4 GCPolicy *GCPolicy, 5 BuildkitVersion Release
Platform: 1 Architecture string, 2 OS string, 3 Variant string
GCPolicy: 1 all bool, 2 keepDuration int64, 3 keepBytes int64, 4 filters *string
Release: 1 package string, 2 version string, 3 revision string
InfoResponse: 1 buildkitVersion Release

DiskUsageRequest: 1 filter *string
DiskUsageResponse: 1 record *UsageRecord
UsageRecord: 1 ID string, 2 Mutable bool, 3 InUse bool, 4 Size int64, 6 CreatedAt Time, 7 LastUsedAt Time,
    8 UsageCount int64, 9 Description string, 10 RecordType string, 11 Shared bool
PruneRequest: 1 filter *string, 2 all bool, 3 keepDuration int64, 4 keepBytes int64, 5 maxUsedSpace int64,
    6 minFreeSpace int64

PongResponse: 1 FrontendAPICaps *Capability, 2 LLBCaps *Capability, 3 Workers *Worker
Capability: 1 ID string, 2 Enabled bool
BridgeSolveRequest: 1 Definition Definition, 2 Frontend string, 3 FrontendOpt map, 5 allowResultReturn bool,
    6 allowResultArrayRef bool, 12 CacheImports *CacheEntry, 13 FrontendInputs map:Definition, 14 Evaluate bool,
    15 SourcePolicies *Definition
BridgeSolveResponse: 1 ref string, 3 result Result
Result: 1 refDeprecated string, 3 ref Ref, 4 refs RefMap, 10 metadata map:bytes
Ref: 1 id string
RefMap: 1 refs map:Ref
ReturnRequest: 1 result Result, 2 error Status
Status: 1 code int32, 2 message string

Packet: 1 type int32, 2 stat Stat, 3 ID uint32, 4 data bytes
Stat: 1 path bytes, 2 mode uint32, 3 uid uint32, 4 gid uint32, 5 size int64, 6 modTime int64, 7 linkname bytes,
    8 devmajor int64, 9 devminor int64
CredentialsRequest: 1 Host string
CredentialsResponse: 1 Username string, 2 Secret string
ContentInfoRequest: 1 digest string
ContentInfoResponse: 1 info ContentInfo
ContentInfo: 1 digest string, 2 size int64
ReadContentRequest: 1 digest string, 2 offset int64, 3 size int64
ReadContentResponse: 1 offset int64, 2 data bytes
WriteContentRequest: 1 action int32, 2 ref string, 3 total int64, 4 expected string, 5 offset int64, 6 data bytes
WriteContentResponse: 1 action int32, 4 offset int64, 5 total int64, 6 digest string
GetSecretRequest: 1 ID string, 2 annotations map
CheckAgentRequest: 1 ID string
"""

_SCALARS: Final = ("string", "bytes", "bool", "int32", "int64", "uint32")


def _described() -> descriptor_pb2.FileDescriptorProto:
    """The table as a file of protobuf's."""
    file = descriptor_pb2.FileDescriptorProto(name="shiplap.proto", package="shiplap", syntax="proto3")
    for line in _TABLE.replace("\n    ", " ").splitlines():
        name, colon, members = line.partition(":")
        if not colon:
            continue
        described = file.message_type.add(name=name)
        for member in filter(None, map(str.strip, members.split(", "))):
            number, called, kind = member.rstrip(",").split()
            _add(described, int(number), called, kind)
    return file


def _add(described: Any, number: int, name: str, kind: str) -> None:
    """Add a member. kind: a type, ``*`` before one that is repeated, ``map`` of texts or ``map:TYPE`` by text."""
    field = described.field.add(name=name, number=number, label=3 if kind[0] == "*" or kind[:3] == "map" else 1)
    if kind.startswith("map"):
        entry = described.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _add(entry, 1, "key", "string")
        _add(entry, 2, "value", kind[4:] or "string")
        field.type = field.TYPE_MESSAGE
        field.type_name = f".shiplap.{described.name}.{entry.name}"
        return
    kind = kind.removeprefix("*")
    if kind in _SCALARS:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".shiplap.{kind}"


_pool: Final = descriptor_pool.DescriptorPool()
_pool.Add(_described())


def _made(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"shiplap.{name}"))


Bytes: Final = _made("Bytes")
Empty: Final = _made("Empty")
SolveRequest: Final = _made("SolveRequest")
SolveResponse: Final = _made("SolveResponse")
StatusRequest: Final = _made("StatusRequest")
StatusResponse: Final = _made("StatusResponse")
ListWorkersRequest: Final = _made("ListWorkersRequest")
ListWorkersResponse: Final = _made("ListWorkersResponse")
Worker: Final = _made("Worker")
InfoResponse: Final = _made("InfoResponse")
DiskUsageRequest: Final = _made("DiskUsageRequest")
DiskUsageResponse: Final = _made("DiskUsageResponse")
UsageRecord: Final = _made("UsageRecord")
PruneRequest: Final = _made("PruneRequest")
PongResponse: Final = _made("PongResponse")
BridgeSolveRequest: Final = _made("BridgeSolveRequest")
BridgeSolveResponse: Final = _made("BridgeSolveResponse")
ReturnRequest: Final = _made("ReturnRequest")
Packet: Final = _made("Packet")
Stat: Final = _made("Stat")
CredentialsRequest: Final = _made("CredentialsRequest")
CredentialsResponse: Final = _made("CredentialsResponse")
ContentInfoRequest: Final = _made("ContentInfoRequest")
ContentInfoResponse: Final = _made("ContentInfoResponse")
ReadContentRequest: Final = _made("ReadContentRequest")
ReadContentResponse: Final = _made("ReadContentResponse")
WriteContentRequest: Final = _made("WriteContentRequest")
WriteContentResponse: Final = _made("WriteContentResponse")
GetSecretRequest: Final = _made("GetSecretRequest")
CheckAgentRequest: Final = _made("CheckAgentRequest")
