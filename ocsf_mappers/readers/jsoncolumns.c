/* Members of JSON records as columns: their raw text, equal texts once.
 *
 * Called through ctypes by json_columns.py, which runs without Python's lock meanwhile: nothing here knows Python.
 * One pass over each record checks all of it (RFC 8259: grammar, escapes, surrogate pairs, UTF-8, control characters,
 * numbers) and builds, for each wanted member, the distinct raw texts and a code a record. A record that is no JSON
 * object has no members. What is too large or too deep is not taken: the caller then reads in another way.
 *
 * Whoever writes the records may want to do harm. Every read of a text is bounded by its end, there is no recursion,
 * every size is checked before memory is asked for, and the hash is keyed by numbers that nobody outside knows.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

_Static_assert(sizeof(size_t) == 8, "sizes are reckoned in 64 bits");

#define EXPORT __attribute__((visibility("default")))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#ifndef SOURCE
#define SOURCE ""
#endif

enum { DEPTH = 256 };            /* objects and lists in each other; what is deeper is not taken */
enum { FIRST_ROOM = 1024 };      /* bytes of a column's texts at first */
enum { FIRST_VALUES = 64 };      /* ends of texts at first */
enum { FIRST_SLOTS = 128 };      /* of a hash table at first; a power of two */
enum { LENGTHS = 64 };           /* lists of columns by the length of their name; a power of two */
enum { MISSING = 0 };            /* the code of a record without the member */
enum { NO_ROOM = -1 };

typedef const uint8_t *Text;

/* A text in the hash table. One of up to 16 bytes is `a`, `b` and its length; a longer one has a hash in `a`. */
typedef struct {
    uint64_t a, b;
    int32_t code, length;
} Slot;

/* A wanted member. Text k, from 1 on, is texts[ends[k]..ends[k + 1]]; ends[0] and ends[1] are 0. */
typedef struct {
    Text name;
    int32_t name_length;
    int32_t next_of_length;      /* the next column whose name is as long, or -1 */
    int32_t *codes;              /* one a record; the caller's, all MISSING at first */
    int64_t present;             /* records that have the member */
    int64_t last_row;            /* the record that had it last */
    uint8_t *texts;
    int64_t used, room;
    int32_t *ends;
    int64_t values, values_room;
    Slot *slots;                 /* NULL when texts are no longer looked for: then text k is that of record k - 1 */
    int64_t mask;
    Slot last;                   /* the text found last */
} Column;

typedef struct {
    Column *columns;
    int32_t count;
    int32_t of_length[LENGTHS];
    int32_t *follower;           /* the column that followed this one last time, or -1; at `count` the first one */
    uint8_t *names;
    uint8_t *key;                /* a name without its escapes */
    int32_t key_room;
    uint8_t *odd;                /* one a record; the caller's, all 0 at first */
    int64_t row, rows;
    int refused;                 /* something is too deep, or there is no more memory */
    int64_t sample, most;        /* a column with more than `most` texts in `sample` records is not searched further */
    uint64_t seed, other_seed;
} Reader;

/* ---- strings --------------------------------------------------------------------------------------------------- */

/* The first quote, backslash or control character from p on, or the end. *high: a byte before is no ASCII. */
static inline Text plain_run(Text p, Text end, unsigned *high) {
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    for (; end - p >= 16; p += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)p);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(block, quote), _mm_cmpeq_epi8(block, backslash));
        stop = _mm_or_si128(stop, _mm_cmpeq_epi8(_mm_max_epu8(block, control), control));
        unsigned stops = (unsigned)_mm_movemask_epi8(stop), highs = (unsigned)_mm_movemask_epi8(block);
        if (stops) {
            unsigned place = (unsigned)__builtin_ctz(stops);
            *high |= highs & ((1u << place) - 1);
            return p + place;
        }
        *high |= highs;
    }
#elif defined(__aarch64__)
    const uint8x16_t quote = vdupq_n_u8('"'), backslash = vdupq_n_u8('\\'), control = vdupq_n_u8(0x1f);
    for (; end - p >= 16; p += 16) {
        uint8x16_t block = vld1q_u8(p);
        uint8x16_t stop = vorrq_u8(vceqq_u8(block, quote), vceqq_u8(block, backslash));
        stop = vorrq_u8(stop, vcleq_u8(block, control));
        if (vmaxvq_u8(stop)) break; /* the loop below finds where */
        *high |= vmaxvq_u8(block) & 0x80u;
    }
#endif
    for (; p < end && *p != '"' && *p != '\\' && *p >= 0x20; p++) *high |= *p & 0x80u;
    return p;
}

static inline int continues(Text p) { return (*p & 0xc0) == 0x80; }

static int is_utf8(Text p, Text end) {
    while (p < end) {
        uint8_t lead = *p;
        if (lead < 0x80) {
            p++;
        } else if (lead < 0xe0) {
            if (lead < 0xc2 || end - p < 2 || !continues(p + 1)) return 0;
            p += 2;
        } else if (lead < 0xf0) {
            if (end - p < 3 || !continues(p + 1) || !continues(p + 2)) return 0;
            if ((lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] >= 0xa0)) return 0;
            p += 3;
        } else {
            if (lead > 0xf4 || end - p < 4 || !continues(p + 1) || !continues(p + 2) || !continues(p + 3)) return 0;
            if ((lead == 0xf0 && p[1] < 0x90) || (lead == 0xf4 && p[1] >= 0x90)) return 0;
            p += 4;
        }
    }
    return 1;
}

/* The four hexadecimal digits at p, or -1. */
static int32_t hexadecimal(Text p, Text end) {
    int32_t value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        uint8_t digit = p[i], letter = digit | 0x20;
        if (digit >= '0' && digit <= '9') value = value << 4 | (digit - '0');
        else if (letter >= 'a' && letter <= 'f') value = value << 4 | (letter - 'a' + 10);
        else return -1;
    }
    return value;
}

/* Behind an escape that begins at p, or NULL. */
static Text escape_end(Text p, Text end) {
    if (end - p < 2) return NULL;
    switch (p[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': return p + 2;
    case 'u': break;
    default: return NULL;
    }
    int32_t unit = hexadecimal(p + 2, end);
    p += 6;
    if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000)) return NULL;
    if (unit < 0xd800 || unit >= 0xe000) return p;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return NULL;
    unit = hexadecimal(p + 2, end);
    return unit >= 0xdc00 && unit < 0xe000 ? p + 6 : NULL;
}

/* The quote that closes a string whose first character is at p, or NULL. *escaped is set when it has escapes. */
static inline Text string_end(Text p, Text end, int *escaped) {
    unsigned high = 0;
    Text begin = p;
    for (;;) {
        p = plain_run(p, end, &high);
        if (UNLIKELY(p >= end)) return NULL;
        if (LIKELY(*p == '"')) break;
        if (*p != '\\') return NULL;
        *escaped = 1;
        p = escape_end(p, end);
        if (!p) return NULL;
    }
    return LIKELY(!high) || is_utf8(begin, p) ? p : NULL;
}

/* Writes what a valid string says, which is never longer than its text; answers its length. */
static int64_t unescaped(Text p, Text end, uint8_t *out) {
    uint8_t *begin = out;
    while (p < end) {
        if (*p != '\\') { *out++ = *p++; continue; }
        uint8_t kind = p[1];
        p += 2;
        switch (kind) {
        case 'b': *out++ = '\b'; continue;
        case 'f': *out++ = '\f'; continue;
        case 'n': *out++ = '\n'; continue;
        case 'r': *out++ = '\r'; continue;
        case 't': *out++ = '\t'; continue;
        case 'u': break;
        default: *out++ = kind; continue;
        }
        uint32_t character = (uint32_t)hexadecimal(p, end);
        p += 4;
        if (character >= 0xd800 && character < 0xdc00) {
            character = 0x10000 + ((character - 0xd800) << 10) + ((uint32_t)hexadecimal(p + 2, end) - 0xdc00);
            p += 6;
        }
        if (character < 0x80) {
            *out++ = (uint8_t)character;
            continue;
        }
        int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
        *out++ = (uint8_t)((more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0) | character >> (6 * more));
        while (more--) *out++ = (uint8_t)(0x80 | (character >> (6 * more) & 0x3f));
    }
    return out - begin;
}

/* ---- other values ---------------------------------------------------------------------------------------------- */

static inline Text blanks_end(Text p, Text end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* Behind one or more digits, or NULL. */
static inline Text digits_end(Text p, Text end) {
    Text begin = p;
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p > begin ? p : NULL;
}

static Text number_end(Text p, Text end) {
    if (p < end && *p == '-') p++;
    if (p < end && *p == '0') p++;
    else if (!(p = digits_end(p, end))) return NULL;
    if (p < end && *p == '.' && !(p = digits_end(p + 1, end))) return NULL;
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        p = digits_end(p, end);
    }
    return p;
}

static inline Text word_end(Text p, Text end, const char *word, int64_t length) {
    return end - p >= length && !memcmp(p, word, (size_t)length) ? p + length : NULL;
}

static inline Text scalar_end(Text p, Text end) {
    switch (*p) {
    case 't': return word_end(p, end, "true", 4);
    case 'f': return word_end(p, end, "false", 5);
    case 'n': return word_end(p, end, "null", 4);
    default: return number_end(p, end);
    }
}

/* From the quote before a name to the value behind its colon, or NULL. */
static inline Text name_end(Text p, Text end) {
    int escaped = 0;
    if (UNLIKELY(p >= end || *p != '"')) return NULL;
    p = string_end(p + 1, end, &escaped);
    if (!p) return NULL;
    p = blanks_end(p + 1, end);
    return p < end && *p == ':' ? blanks_end(p + 1, end) : NULL;
}

/* Behind the value that begins at p, or NULL. What is open around it stands in a list: nothing calls itself. */
static Text value_end(Reader *reader, Text p, Text end) {
    uint8_t closing[DEPTH];
    int depth = 0, escaped = 0;
    for (;;) {
        if (UNLIKELY(p >= end)) return NULL;
        if (*p == '"') {
            p = string_end(p + 1, end, &escaped);
            if (!p) return NULL;
            p++;
        } else if (*p == '{' || *p == '[') {
            uint8_t close = *p == '{' ? '}' : ']';
            if (UNLIKELY(depth == DEPTH)) {
                reader->refused = 1;
                return NULL;
            }
            p = blanks_end(p + 1, end);
            if (p >= end) return NULL;
            if (*p == close) {
                p++;
            } else {
                closing[depth++] = close;
                if (close == '}' && !(p = name_end(p, end))) return NULL;
                continue;
            }
        } else if (!(p = scalar_end(p, end))) {
            return NULL;
        }
        for (;;) { /* a value ends here, and so may those around it */
            if (!depth) return p;
            p = blanks_end(p, end);
            if (UNLIKELY(p >= end)) return NULL;
            if (*p == ',') break;
            if (*p != closing[--depth]) return NULL;
            p++;
        }
        p = blanks_end(p + 1, end);
        if (closing[depth - 1] == '}' && !(p = name_end(p, end))) return NULL;
    }
}

/* ---- columns --------------------------------------------------------------------------------------------------- */

static inline uint64_t mixed(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}
static inline uint64_t eight(Text p) {
    uint64_t value;
    memcpy(&value, p, 8);
    return value;
}
static inline uint64_t four(Text p) {
    uint32_t value;
    memcpy(&value, p, 4);
    return value;
}

/* `a` and `b` of a text. Those of up to 16 bytes differ whenever two texts of one length do. */
static inline Slot slot_of(const Reader *reader, Text p, int64_t length) {
    Slot slot = {0, 0, MISSING, (int32_t)length};
    if (length > 16) {
        uint64_t hash = reader->seed ^ (uint64_t)length;
        Text last = p + length - 16;
        for (; p < last; p += 16) hash = mixed(eight(p) ^ reader->other_seed, eight(p + 8) ^ hash);
        slot.a = mixed(eight(last) ^ reader->other_seed, eight(last + 8) ^ hash);
        slot.b = eight(last + 8);
    } else if (length >= 8) {
        slot.a = eight(p);
        slot.b = eight(p + length - 8);
    } else if (length >= 4) {
        slot.a = four(p);
        slot.b = four(p + length - 4);
    } else { /* a value has at least one byte */
        slot.a = (uint64_t)p[0] << 16 | (uint64_t)p[length >> 1] << 8 | p[length - 1];
    }
    return slot;
}

static inline uint64_t place_of(const Reader *reader, const Slot *slot) {
    return mixed(slot->a ^ reader->seed, slot->b ^ reader->other_seed ^ (uint64_t)slot->length);
}

/* Puts a text at the end of a column's; answers its code. */
static int64_t appended(Column *column, Text p, int64_t length) {
    int64_t used = column->used + length, values = column->values + 1;
    if (used > INT32_MAX || values >= INT32_MAX - 2) return NO_ROOM;
    if (used > column->room) {
        int64_t room = used + used / 2 + FIRST_ROOM;
        uint8_t *texts = realloc(column->texts, (size_t)room);
        if (!texts) return NO_ROOM;
        column->texts = texts;
        column->room = room;
    }
    if (values + 2 > column->values_room) {
        int64_t room = column->values_room * 2;
        int32_t *ends = realloc(column->ends, (size_t)room * sizeof *ends);
        if (!ends) return NO_ROOM;
        column->ends = ends;
        column->values_room = room;
    }
    if (length) memcpy(column->texts + column->used, p, (size_t)length);
    column->used = used;
    column->values = values;
    column->ends[values + 1] = (int32_t)used;
    return values;
}

static inline Text text_of(const Column *column, int64_t code) { return column->texts + column->ends[code]; }

static int grown(const Reader *reader, Column *column) {
    int64_t size = (column->mask + 1) * 4, mask = size - 1;
    Slot *slots = calloc((size_t)size, sizeof *slots);
    if (!slots) return 0;
    for (int64_t i = 0; i <= column->mask; i++) {
        if (column->slots[i].code == MISSING) continue;
        uint64_t place = place_of(reader, &column->slots[i]) & (uint64_t)mask;
        while (slots[place].code != MISSING) place = (place + 1) & (uint64_t)mask;
        slots[place] = column->slots[i];
    }
    free(column->slots);
    column->slots = slots;
    column->mask = mask;
    return 1;
}

/* The code of a text, which is kept when it is a new one. */
static int64_t found(const Reader *reader, Column *column, Text p, int64_t length) {
    Slot wanted = slot_of(reader, p, length);
    uint64_t mask = (uint64_t)column->mask, place = place_of(reader, &wanted) & mask;
    for (; column->slots[place].code != MISSING; place = (place + 1) & mask) {
        const Slot *slot = &column->slots[place];
        if (slot->a != wanted.a || slot->b != wanted.b || slot->length != wanted.length) continue;
        if (length > 16 && memcmp(p, text_of(column, slot->code), (size_t)length)) continue;
        column->last = *slot;
        return slot->code;
    }
    int64_t code = appended(column, p, length);
    if (code < 0) return code;
    wanted.code = (int32_t)code;
    column->slots[place] = column->last = wanted;
    if (column->values * 2 > column->mask && !grown(reader, column)) return NO_ROOM;
    return code;
}

/* Makes the texts of a column that is not searched those of the first `rows` records, empty where one has none. */
static int filled(Column *column, int64_t rows) {
    while (column->values < rows) {
        if (appended(column, NULL, 0) < 0) return 0;
    }
    if (column->values > rows) { /* a member that comes again in its record: the last one counts */
        column->values = rows;
        column->used = column->ends[rows + 1];
    }
    return 1;
}

/* Lays the texts of the first `rows` records out one a record, and searches no more. */
static int laid_out(Column *column, int64_t rows) {
    Column old = *column;
    column->room = old.used + FIRST_ROOM;
    column->values_room = rows + FIRST_VALUES;
    column->texts = malloc((size_t)column->room);
    column->ends = calloc((size_t)column->values_room, sizeof *column->ends);
    column->slots = NULL;
    column->used = column->values = 0;
    column->last.code = MISSING;
    int done = column->texts && column->ends;
    for (int64_t row = 0; done && row < rows; row++) {
        int64_t code = old.codes[row];
        if (code == MISSING) continue;
        done = filled(column, row) && appended(column, text_of(&old, code), old.ends[code + 1] - old.ends[code]) > 0;
        column->codes[row] = (int32_t)(row + 1);
    }
    free(old.texts);
    free(old.ends);
    free(old.slots);
    return done && filled(column, rows);
}

/* ---- records --------------------------------------------------------------------------------------------------- */

/* The column of a name, or -1. */
static int32_t column_of(const Reader *reader, Text name, int64_t length) {
    int32_t column = reader->of_length[length & (LENGTHS - 1)];
    for (; column >= 0; column = reader->columns[column].next_of_length) {
        const Column *one = &reader->columns[column];
        if (one->name_length == length && !memcmp(one->name, name, (size_t)length)) return column;
    }
    return -1;
}

/* The value of a wanted member, from p on; answers behind it, or NULL. */
static inline Text value(Reader *reader, Column *column, Text p, Text end) {
    int64_t row = reader->row, code;
    if (UNLIKELY(p >= end)) return NULL;
    if (LIKELY(column->last_row != row)) column->present++;
    else reader->odd[row] = 1;
    column->last_row = row;
    if (column->last.code != MISSING && (*p == '"' || *p == '{' || *p == '[')) {
        /* One that begins as the last one did ends where that ended, for these three say themselves where they end. */
        int64_t length = column->last.length;
        if (end - p >= length && !memcmp(p, text_of(column, column->last.code), (size_t)length)) {
            column->codes[row] = column->last.code;
            return p + length;
        }
    }
    Text begin = p;
    p = value_end(reader, p, end);
    if (!p) return NULL;
    if (column->slots) code = found(reader, column, begin, p - begin);
    else code = filled(column, row) ? appended(column, begin, p - begin) : NO_ROOM;
    if (UNLIKELY(code < 0)) {
        reader->refused = 1;
        return NULL;
    }
    column->codes[row] = (int32_t)code;
    return p;
}

/* One record, which begins at p; answers whether it is a JSON object. */
static int record(Reader *reader, Text p, Text end) {
    int32_t before = reader->count;
    p = blanks_end(p, end);
    if (p >= end || *p != '{') return 0;
    p = blanks_end(p + 1, end);
    if (p < end && *p == '}') return blanks_end(p + 1, end) == end;
    for (;;) {
        int escaped = 0;
        if (UNLIKELY(p >= end || *p != '"')) return 0;
        Text name = p + 1;
        int32_t column = reader->follower[before];
        const Column *guess = column >= 0 ? &reader->columns[column] : NULL;
        if (LIKELY(guess && end - name > guess->name_length && name[guess->name_length] == '"'
                   && !memcmp(name, guess->name, (size_t)guess->name_length))) {
            p = name + guess->name_length;
        } else {
            p = string_end(name, end, &escaped);
            if (!p) return 0;
            if (LIKELY(!escaped)) column = column_of(reader, name, p - name);
            else if (p - name > reader->key_room) column = -1; /* longer than any name with all of it escaped */
            else column = column_of(reader, reader->key, unescaped(name, p, reader->key));
            reader->follower[before] = column;
        }
        p = blanks_end(p + 1, end);
        if (UNLIKELY(p >= end || *p != ':')) return 0;
        p = blanks_end(p + 1, end);
        if (LIKELY(column >= 0)) {
            before = column;
            p = value(reader, &reader->columns[column], p, end);
        } else {
            reader->odd[reader->row] = 1;
            p = value_end(reader, p, end);
        }
        if (UNLIKELY(!p)) return 0;
        p = blanks_end(p, end);
        if (UNLIKELY(p >= end)) return 0;
        if (*p == '}') return blanks_end(p + 1, end) == end;
        if (*p != ',') return 0;
        p = blanks_end(p + 1, end);
    }
}

/* Takes back what was found of the record that is being read: it has no members, and is odd. */
static int struck(Reader *reader) {
    for (int32_t i = 0; i < reader->count; i++) {
        Column *column = &reader->columns[i];
        if (column->last_row != reader->row) continue;
        column->codes[reader->row] = MISSING;
        column->last_row = -1;
        column->present--;
        if (!column->slots && !filled(column, reader->row)) return 0;
    }
    reader->odd[reader->row] = 1;
    return 1;
}

/* ---- what is called -------------------------------------------------------------------------------------------- */

/* The digest of the source this is made of. */
EXPORT const char *jsoncolumns_source(void) { return SOURCE; }

EXPORT void jsoncolumns_release(void *memory) { free(memory); }

EXPORT void jsoncolumns_free(Reader *reader) {
    if (!reader) return;
    for (int32_t i = 0; reader->columns && i < reader->count; i++) {
        free(reader->columns[i].texts);
        free(reader->columns[i].ends);
        free(reader->columns[i].slots);
    }
    free(reader->columns);
    free(reader->follower);
    free(reader->names);
    free(reader->key);
    free(reader);
}

/* A reader of `rows` records, or NULL without memory.
 *
 * names: the members' names one after the other, UTF-8, no two alike; name_ends: where each of them ends.
 * codes: for each name room for a code a record; odd: a byte a record. Zeros, and kept until the reader is freed.
 * sample, most: a column with more than `most` texts in the first `sample` records is not searched for equal ones.
 */
EXPORT Reader *jsoncolumns_new(int32_t count, Text names, const int32_t *name_ends, int64_t rows, int32_t **codes,
                               uint8_t *odd, int64_t sample, int64_t most, uint64_t seed, uint64_t other_seed) {
    if (count < 1 || rows < 0 || rows >= INT32_MAX - 2) return NULL;
    int32_t size = name_ends[count - 1], longest = 0;
    Reader *reader = calloc(1, sizeof *reader);
    if (!reader) return NULL;
    reader->count = count;
    reader->rows = rows;
    reader->odd = odd;
    reader->sample = sample;
    reader->most = most;
    reader->seed = seed;
    reader->other_seed = other_seed;
    memset(reader->of_length, 0xff, sizeof reader->of_length);
    reader->columns = calloc((size_t)count, sizeof *reader->columns);
    reader->follower = malloc(((size_t)count + 1) * sizeof *reader->follower);
    reader->names = malloc((size_t)size + 1);
    int made = reader->columns && reader->follower && reader->names;
    if (made) {
        memset(reader->follower, 0xff, ((size_t)count + 1) * sizeof *reader->follower);
        memcpy(reader->names, names, (size_t)size);
    }
    for (int32_t i = 0, begin = 0; made && i < count; begin = name_ends[i++]) {
        Column *column = &reader->columns[i];
        int32_t *first = &reader->of_length[(name_ends[i] - begin) & (LENGTHS - 1)];
        column->name = reader->names + begin;
        column->name_length = name_ends[i] - begin;
        column->next_of_length = *first;
        *first = i;
        if (column->name_length > longest) longest = column->name_length;
        column->codes = codes[i];
        column->last_row = -1;
        column->room = FIRST_ROOM;
        column->values_room = FIRST_VALUES;
        column->mask = FIRST_SLOTS - 1;
        column->texts = malloc(FIRST_ROOM);
        column->ends = calloc(FIRST_VALUES, sizeof *column->ends);
        column->slots = calloc(FIRST_SLOTS, sizeof *column->slots);
        made = column->texts && column->ends && column->slots;
    }
    reader->key_room = longest < INT32_MAX / 6 ? longest * 6 : INT32_MAX - 1;
    reader->key = made ? malloc((size_t)reader->key_room + 1) : NULL;
    if (made && reader->key) return reader;
    jsoncolumns_free(reader);
    return NULL;
}

/* Reads the next records: record k is texts[offsets[k]..offsets[k + 1]]. Answers 1, or 0 when they are not taken, after
 * which the reader is only to be freed. */
EXPORT int jsoncolumns_read(Reader *reader, Text texts, int64_t size, const int32_t *offsets, int64_t count) {
    if (count < 0 || count > reader->rows - reader->row) return 0;
    for (int64_t k = 0; k < count; k++) {
        int64_t begin = offsets[k], end = offsets[k + 1];
        if (begin < 0 || end < begin || end > size) return 0;
        if (begin == end || !record(reader, texts + begin, texts + end)) {
            if (reader->refused || !struck(reader)) return 0;
        }
        if (++reader->row != reader->sample) continue;
        for (int32_t i = 0; i < reader->count; i++) {
            if (reader->columns[i].values > reader->most && !laid_out(&reader->columns[i], reader->row)) return 0;
        }
    }
    return 1;
}

/* Hands a column over when all records are read: answers 1, or 0 without memory.
 *
 * facts: where its texts are and how many bytes they have, where their ends are and how many texts there are, how many
 * records have one, and whether equal texts were looked for; else there is a text a record. Texts and ends are the
 * caller's from then on, to be given to jsoncolumns_release.
 */
EXPORT int jsoncolumns_take(Reader *reader, int32_t number, int64_t *facts) {
    if (number < 0 || number >= reader->count || reader->row != reader->rows) return 0;
    Column *column = &reader->columns[number];
    int searched = column->slots != NULL;
    if (!column->texts || (!searched && !filled(column, reader->rows))) return 0;
    uint8_t *texts = realloc(column->texts, (size_t)column->used + 1); /* smaller, or as it was */
    if (texts) column->texts = texts;
    int32_t *ends = realloc(column->ends, ((size_t)column->values + 2) * sizeof *ends);
    if (ends) column->ends = ends;
    facts[0] = (int64_t)(intptr_t)column->texts;
    facts[1] = column->used;
    facts[2] = (int64_t)(intptr_t)column->ends;
    facts[3] = column->values;
    facts[4] = column->present;
    facts[5] = searched;
    column->texts = NULL;
    column->ends = NULL;
    return 1;
}
