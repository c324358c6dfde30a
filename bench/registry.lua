-- bench/registry.lua - requests for wrk: what registry.mjs measures, one kind a run.
-- wrk ... -s registry.lua URL -- KIND FLEET TOKEN RUN
local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local V = "?api-version=2021-04-12"
local kind, fleet, run, n = "", 1, "", 0
local headers = {}

function init(args)
  kind, fleet, run = args[1], tonumber(args[2]), args[4]
  headers = { ["Host"] = "hub.localhost", ["Authorization"] = args[3], ["Content-Type"] = "application/json" }
  math.randomseed(number + 1)
end

local function any() return "d" .. math.random(0, fleet - 1) end
local function fresh() return run .. "-" .. number .. "-" .. n end

local kinds = {
  identity_read = function() return "GET", "/devices/" .. any() .. V end,
  identity_create = function() local id = fresh() return "PUT", "/devices/" .. id .. V, '{"deviceId":"' .. id .. '"}' end,
  identity_update = function()
    headers["If-Match"] = "*"
    local id = any()
    return "PUT", "/devices/" .. id .. V, '{"deviceId":"' .. id .. '","status":"enabled","statusReason":"r' .. n .. '"}'
  end,
  identity_delete = function()
    headers["If-Match"] = "*"
    return "DELETE", "/devices/" .. fresh() .. V
  end,
  identity_list = function() return "GET", "/devices" .. V .. "&top=1000" end,
  bulk_create = function()
    local all = {}
    for i = 1, 100 do all[i] = '{"id":"' .. fresh() .. "-" .. i .. '","importMode":"create"}' end
    return "POST", "/devices" .. V, "[" .. table.concat(all, ",") .. "]"
  end,
  twin_read = function() return "GET", "/twins/" .. any() .. V end,
  twin_update = function() return "PATCH", "/twins/" .. any() .. V, '{"properties":{"desired":{"n":' .. n .. "}}}" end,
  query = function()
    headers["x-ms-max-item-count"] = "100"
    return "POST", "/devices/query" .. V, '{"query":"SELECT * FROM devices WHERE tags.site = \'s' .. math.random(0, math.floor(fleet / 100)) .. '\'"}'
  end,
  c2d_send = function() return "POST", "/roost/v1/devices/" .. any() .. "/messages", '{"body":"on"}' end,
}

function request()
  n = n + 1
  local method, path, body = kinds[kind]()
  return wrk.format(method, path, headers, body)
end

function done(summary, latency)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('JSON {"requests":%d,"bad":%d,"seconds":%.3f,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, bad, summary.duration / 1e6, latency:percentile(50), latency:percentile(99)))
end
