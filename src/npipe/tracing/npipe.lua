-- Wireshark's dissector for traces of npipe (docs/tracing.md): link type USER0, 147.
-- `npipe trace --lua` says where this file is; wireshark -X lua_script:FILE, or copy it to Wireshark's plugins.

local npipe = Proto("npipe", "npipe trace")

local kinds = {
    [1] = "data", [2] = "opened", [3] = "present", [4] = "closed", [5] = "gone", [6] = "lost",
}
local codes = {
    [0] = "ERROR_SUCCESS", [109] = "ERROR_BROKEN_PIPE", [233] = "ERROR_PIPE_NOT_CONNECTED",
    [995] = "ERROR_OPERATION_ABORTED",
}

local version = ProtoField.uint8("npipe.version", "Version")
local kind = ProtoField.uint8("npipe.kind", "Kind", base.DEC, kinds)
local flags = ProtoField.uint16("npipe.flags", "Flags", base.HEX)
local out = ProtoField.bool("npipe.flags.out", "From the traced process", 16, nil, 0x1)
local first = ProtoField.bool("npipe.flags.first", "First bytes of a write", 16, nil, 0x2)
local last = ProtoField.bool("npipe.flags.last", "Last bytes of a write", 16, nil, 0x4)
local withdrawn = ProtoField.bool("npipe.flags.withdrawn", "Withdrawn", 16, nil, 0x8)
local server = ProtoField.bool("npipe.flags.server", "The traced process is the server", 16, nil, 0x10)
local message = ProtoField.bool("npipe.flags.message", "Message pipe", 16, nil, 0x20)
local code = ProtoField.uint32("npipe.code", "Win32 code", base.DEC, codes)
local connection = ProtoField.uint64("npipe.connection", "Connection")
local owner = ProtoField.uint32("npipe.owner", "Traced process")
local peer = ProtoField.uint32("npipe.peer", "Peer's process")
local size = ProtoField.uint32("npipe.size", "Size")
local data = ProtoField.bytes("npipe.data", "Data")
npipe.fields = {
    version, kind, flags, out, first, last, withdrawn, server, message, code, connection, owner, peer, size, data,
}

local malformed = ProtoExpert.new("npipe.malformed", "Not a record of npipe", expert.group.MALFORMED,
                                  expert.severity.ERROR)
npipe.experts = { malformed }

local HEADER = 32

function npipe.dissector(buffer, pinfo, tree)
    pinfo.cols.protocol = "npipe"
    local branch = tree:add(npipe, buffer())
    if buffer:len() < HEADER or buffer(0, 1):uint() ~= 1 then
        branch:add_proto_expert_info(malformed)
        return
    end
    local what, bits = buffer(1, 1):uint(), buffer(2, 2):le_uint()
    branch:add(version, buffer(0, 1))
    branch:add(kind, buffer(1, 1))
    local flag_tree = branch:add_le(flags, buffer(2, 2))
    for _, flag in ipairs({ out, first, last, withdrawn, server, message }) do
        flag_tree:add_le(flag, buffer(2, 2))
    end
    branch:add_le(code, buffer(4, 4))
    branch:add_le(connection, buffer(8, 8))
    branch:add_le(owner, buffer(16, 4))
    branch:add_le(peer, buffer(20, 4))
    branch:add_le(size, buffer(24, 4))
    local from, to = buffer(20, 4):le_uint(), buffer(16, 4):le_uint()
    if bits % 2 == 1 then
        from, to = to, from
    end
    pinfo.cols.src = tostring(from)
    pinfo.cols.dst = tostring(to)
    local about = kinds[what] or ("kind " .. what)
    if what == 1 then
        about = (math.floor(bits / 32) % 2 == 1 and "message" or "bytes") .. " " .. buffer(24, 4):le_uint()
        if math.floor(bits / 8) % 2 == 1 then
            about = about .. " withdrawn"
        end
    end
    pinfo.cols.info = string.format("#%s %s", tostring(buffer(8, 8):le_uint64()), about)
    if buffer:len() > HEADER then
        branch:add(data, buffer(HEADER))
    end
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, npipe)
