"""What Redis does in one step, as Lua scripts.

Each script gets the prefix of all keys as KEYS[1] and the ID of the asking node as ARGV[1].
"""

LIVING_NODES = """
local living = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1] .. 'nodes')) do
  if redis.call('EXISTS', KEYS[1] .. 'lease:' .. node) == 1 then table.insert(living, node) end
end
"""
LIVING = LIVING_NODES + "return living"
# What the other living nodes have: the hash ARGV[2]NODE ARGV[3], all of it or the field ARGV[4].
OTHERS = (
    LIVING_NODES
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
# Write how many connections this node has of some users, and let in those that wait for a quota to have room for them.
# At once, so that nodes that ask at the same time neither let in too many together nor refuse each other's.
WRITE_USERS = (
    LIVING_NODES
    + """
local asked, elsewhere, answers = cjson.decode(ARGV[2]), {}, {}
local function everywhere(user)
  if not elsewhere[user] then
    elsewhere[user] = 0
    for _, node in ipairs(living) do
      if node ~= ARGV[1] then
        elsewhere[user] = elsewhere[user] + (redis.call('HGET', KEYS[1] .. 'users:' .. node, user) or 0)
      end
    end
  end
  return asked.here[user] + elsewhere[user]
end
for number, quotas in ipairs(asked.waiting) do
  answers[number] = 1
  for user, quota in pairs(quotas) do
    if everywhere(user) >= quota then answers[number] = 0 end
  end
  if answers[number] == 1 then
    for user in pairs(quotas) do asked.here[user] = asked.here[user] + 1 end
  end
end
local hash = KEYS[1] .. 'users:' .. ARGV[1]
for user, connections in pairs(asked.here) do
  if connections > 0 then redis.call('HSET', hash, user, connections) else redis.call('HDEL', hash, user) end
end
return answers
"""
)
# Remove what nodes have left behind whose lease has run out.
CLEAN = """
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
