"""Lua scripts, which Redis runs atomically.

Each script gets the prefix of all keys as KEYS[1], and the ID of the calling node as ARGV[1] if it needs it.
"""

_FIND_LIVING = """
local living = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1] .. 'nodes')) do
  if redis.call('EXISTS', KEYS[1] .. 'lease:' .. node) == 1 then table.insert(living, node) end
end
"""
# Return the nodes that hold a lease.
LIVING_NODES = _FIND_LIVING + "return living"
# Return the living nodes whose seats are all in Redis.
COMPLETE_NODES = (
    _FIND_LIVING
    + """
local complete = {}
for _, node in ipairs(living) do
  if redis.call('GET', KEYS[1] .. 'lease:' .. node) == 'complete' then table.insert(complete, node) end
end
return complete
"""
)
# Return all fields of the hash ARGV[2]NODE ARGV[3], or only its field ARGV[4], for each of the other living nodes.
READ_OTHERS = (
    _FIND_LIVING
    + """
local found = {}
for _, node in ipairs(living) do
  if node ~= ARGV[1] then
    local hash = KEYS[1] .. ARGV[2] .. node .. ARGV[3]
    if ARGV[4] then
      table.insert(found, ARGV[4])
      table.insert(found, redis.call('HGET', hash, ARGV[4]) or '0')
    else
      for _, item in ipairs(redis.call('HGETALL', hash)) do table.insert(found, item) end
    end
  end
end
return found
"""
)
# Return how many connections each of the users ARGV has on all living nodes together.
COUNT_USERS = (
    _FIND_LIVING
    + """
local sums = {}
for number = 1, #ARGV do sums[number] = 0 end
for _, node in ipairs(living) do
  for number, count in ipairs(redis.call('HMGET', KEYS[1] .. 'users:' .. node, unpack(ARGV))) do
    sums[number] = sums[number] + (count or 0)
  end
end
return sums
"""
)
# Check the quotas of waiting connections, count those that are within them in their channels, and write how many
# connections the users have on this node. As it is one step, nodes that check at the same time neither admit too many
# connections nor reject too many. Return whether each has passed, and the sums that were seen: users, each followed by
# its connections on all nodes.
WRITE_USERS = (
    _FIND_LIVING
    + """
local request, elsewhere, joined, answers = cjson.decode(ARGV[2]), {}, {}, {}
local function count_everywhere(user)
  if not elsewhere[user] then
    elsewhere[user] = 0
    for _, node in ipairs(living) do
      if node ~= ARGV[1] then
        elsewhere[user] = elsewhere[user] + (redis.call('HGET', KEYS[1] .. 'users:' .. node, user) or 0)
      end
    end
  end
  return request.here[user] + elsewhere[user]
end
for number, quotas in ipairs(request.waiting) do
  answers[number] = 1
  for user, quota in pairs(quotas) do
    if count_everywhere(user) >= quota then answers[number] = 0 end
  end
  if answers[number] == 1 then
    for user in pairs(quotas) do request.here[user] = request.here[user] + 1 end
    local cluster, path, here = unpack(request.channels[number])
    local hash = KEYS[1] .. 'channels:' .. ARGV[1] .. ':' .. cluster
    joined[hash .. ' ' .. path] = (joined[hash .. ' ' .. path] or here) + 1
    redis.call('HSET', hash, path, joined[hash .. ' ' .. path])
    redis.call('SADD', KEYS[1] .. 'clusters:' .. ARGV[1], cluster)
  end
end
local hash = KEYS[1] .. 'users:' .. ARGV[1]
for user, connections in pairs(request.here) do
  if connections > 0 then redis.call('HSET', hash, user, connections) else redis.call('HDEL', hash, user) end
end
local sums = {}
for user, connections in pairs(elsewhere) do
  table.insert(sums, user)
  table.insert(sums, request.here[user] + connections)
end
return {answers, sums}
"""
)
# Delete the seats of the asking node.
FORGET_SEATS = """
for _, group in ipairs(redis.call('SMEMBERS', KEYS[1] .. 'groups:' .. ARGV[1])) do
  redis.call('DEL', KEYS[1] .. 'seats:' .. ARGV[1] .. ':' .. group)
end
redis.call('DEL', KEYS[1] .. 'groups:' .. ARGV[1])
"""
# Delete everything of nodes whose lease has expired.
CLEAN_UP = """
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1] .. 'nodes')) do
  if redis.call('EXISTS', KEYS[1] .. 'lease:' .. node) == 0 then
    for _, cluster in ipairs(redis.call('SMEMBERS', KEYS[1] .. 'clusters:' .. node)) do
      redis.call('DEL', KEYS[1] .. 'channels:' .. node .. ':' .. cluster)
    end
    for _, group in ipairs(redis.call('SMEMBERS', KEYS[1] .. 'groups:' .. node)) do
      redis.call('DEL', KEYS[1] .. 'seats:' .. node .. ':' .. group)
    end
    for _, kind in ipairs({'clusters:', 'users:', 'groups:'}) do redis.call('DEL', KEYS[1] .. kind .. node) end
    redis.call('SREM', KEYS[1] .. 'nodes', node)
  end
end
"""


def read_others(prefix: str, suffix: str, *field: str) -> tuple[str, ...]:
    """Return the script and its arguments that read the hash `prefix`NODE`suffix` of each of the other living nodes.

    Args:
        prefix, suffix: what the name of the hash begins and ends with.
        field: the only field to read; if left out, all fields.
    """
    return READ_OTHERS, prefix, suffix, *field
