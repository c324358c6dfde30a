/* hub/domain/json_tree.h - JSON as a tree that keeps how a number was spelled: 1.0 is written 1.0 again,
 * which the JSON library of the tools does not promise. For what is stored and handed on: twins and what acts
 * on them. Pure; nodes live in the arena, strings in the arena or in the text that was parsed. Source: RFC
 * 8259. Stricter in one point: a lone surrogate is refused, since it is no text. */
#ifndef ROOST_HUB_DOMAIN_JSON_TREE_H
#define ROOST_HUB_DOMAIN_JSON_TREE_H

#include "base/arena.h"

#define JTREE_NESTED_MAX 64u    /* objects and arrays inside each other */
#define JTREE_NODES_MAX  50000u /* values of one text */

enum jkind { JNULL, JFALSE, JTRUE, JNUMBER, JSTRING, JARRAY, JOBJECT };
struct jref { /* an entry of an index */
    struct jnode *n;
};
struct jnode {
    uint8_t kind;        /* enum jkind */
    uint32_t nr;         /* members or elements */
    uint32_t at;         /* which one of its parent's it is */
    struct span key;     /* decoded; of a member */
    struct span text;    /* JSTRING: decoded, JNUMBER: as spelled */
    struct jnode *first; /* members or elements, in order */
    struct jnode *next;  /* the parent's */
    struct jref *sorted; /* by key; NULL in small objects */
    const void *mark;    /* whatever its owner wants to remember of it */
};

struct jtree_fault { /* why a text was refused */
    const char *what;
    size_t at; /* byte */
};

/* One value with nothing but white space around it. Of members with the same name the last one counts.
 *   ERR_PROTO  not JSON      ERR_LIMIT  nested too deeply, too many values      ERR_NOMEM
 * why may be NULL. */
MUST_USE enum err jtree_parse(struct arena *a, struct span text, struct jnode **out, struct jtree_fault *why);
/* The same, but members with the same name are refused as well. */
MUST_USE enum err jtree_parse_once(struct arena *a, struct span text, struct jnode **out,
                                   struct jtree_fault *why);

/* The member, or NULL: there is none, or o is no object (or NULL). */
struct jnode *jtree_get(const struct jnode *o, struct span key);

/* Building. The arena remembers a failure; until it is asked, these return something that can be written to
 * no harm. A node belongs to one parent: jtree_copy makes another that shares what is below it. */
struct jnode *jtree_new(struct arena *a, enum jkind kind);
struct jnode *jtree_copy(struct arena *a, const struct jnode *n);
struct jtree_list { /* appends in order */
    struct jnode *parent;
    struct jnode **end;
};
struct jtree_list jtree_list(struct jnode *parent);
void jtree_add(struct jtree_list *l, struct jnode *n); /* an object's: n->key is set, and not in it yet */
/* After the last member: makes jtree_get quick in large objects. */
void jtree_index(struct arena *a, struct jnode *o);

/* Without white space. */
void jtree_write(struct wr *w, const struct jnode *n);
/* The text of it, in the arena. */
struct span jtree_text(struct arena *a, const struct jnode *n);
/* Equal in every spelling, members in any order. */
bool jtree_eq(const struct jnode *x, const struct jnode *y);

#endif
