"""What each Redis command does to data. What is not listed is treated as both read and write.

Source: the command tables of Redis 7 and Valkey 9 (``COMMAND``, flags ``readonly`` and ``write``).
"""

from enum import IntFlag
from typing import Final


class Effect(IntFlag):
    """What a command does."""

    NEITHER = 0
    READ = 1
    WRITE = 2
    BOTH = 3


_NEITHER: Final = """ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DEBUG DISCARD ECHO
FAILOVER HELLO INFO LASTSAVE LATENCY LOLWUT MEMORY MODULE MONITOR MULTI OBJECT PING PSUBSCRIBE PSYNC
PUBLISH PUBSUB PUNSUBSCRIBE QUIT READONLY READWRITE REPLCONF REPLICAOF RESET ROLE SAVE SCRIPT SELECT
SHUTDOWN SLAVEOF SLOWLOG SPUBLISH SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC TIME UNSUBSCRIBE
UNWATCH WAIT WAITAOF WATCH"""

_READ: Final = """BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP EVALSHA_RO EVAL_RO EXISTS EXPIRETIME FCALL_RO
GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS
HEXPIRETIME HGET HGETALL HKEYS HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS KEYS
LCS LINDEX LLEN LPOS LRANGE MGET PEXPIRETIME PFCOUNT PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD
SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TOUCH TTL TYPE XINFO XLEN
XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER
ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
ZUNION"""

_WRITE: Final = """DEL FLUSHALL FLUSHDB HDEL HMSET HSET MSET PSETEX RESTORE SADD SETEX SETRANGE UNLINK
XADD ZADD ZREM SREM LPUSH RPUSH LSET LTRIM PFADD SWAPDB EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST"""

_TABLE: Final[dict[str, Effect]] = {
    name: does
    for names, does in ((_NEITHER, Effect.NEITHER), (_READ, Effect.READ), (_WRITE, Effect.WRITE))
    for name in names.split()
}
_cache: dict[object, Effect] = {}
_CACHE_MAX: Final = 4096

UNREPEATABLE: Final = frozenset({"XREAD"})
"""Pure reads that must not be sent twice: they may block, and from ``$`` each starts anew."""

SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "FCALL", "EXEC"})
"""Commands that may have written although they answer an error."""


def effect(command: object, arguments: tuple[object, ...] = ()) -> Effect:
    """What ``command`` (text or bytes, any case, perhaps with its sub-command) does to data."""
    try:
        known = _cache.get(command)
    except TypeError:  # a bytearray, say: the driver takes it, so do we
        return Effect.BOTH
    if known is None:
        if command == "SET":
            return _effect_of_set(arguments)
        text = command.decode("latin-1") if isinstance(command, bytes) else str(command)
        words = text.upper().split()
        name = words[0] if words else ""
        known = _TABLE.get(name, Effect.BOTH)
        if name == "SET":
            return _effect_of_set(arguments)
        if len(_cache) < _CACHE_MAX:
            _cache[command] = known
    return known


def _effect_of_set(arguments: tuple[object, ...]) -> Effect:
    """SET reads too when it has an option GET, NX or XX: its reply tells of the old value."""
    for option in arguments[2:]:
        text = option.decode("latin-1") if isinstance(option, bytes) else str(option)
        if text.upper() in ("GET", "NX", "XX", "IFEQ"):
            return Effect.BOTH
    return Effect.WRITE
