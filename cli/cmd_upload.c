/* cli/cmd_upload.c - roost upload: the files that devices uploaded. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"
#include "cli/part.h"

#include <errno.h>
#include <string.h>

#define PIECE (4u << 20) /* a file is fetched so many bytes at a time */

static char *upload_path(const char *device, const char *name)
{
    char *head = hub_path("/roost/v1/devices/", device, "/uploads/"), *path = hub_path(head, name, "");
    free(head);
    return path;
}

static int upload_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "DEVICE", "NAME", "BYTES", "MODIFIED" };
    const char *device = a->pos_nr ? a->pos[0] : NULL;
    json_t *all = json_array();
    char after[1400] = "";
    bool more = true;
    int rc = CLI_OK;
    while (!rc && more) {
        json_t *page = NULL, *one;
        size_t i;
        char *begin = device ? hub_path("/roost/v1/devices/", device, "/uploads?after=")
                             : strdup("/roost/v1/device-uploads?after=");
        char *path = hub_path(begin, after, "");
        rc = hub_json(c, "GET", path, NULL, "listing uploads", &page);
        free(begin);
        free(path);
        json_array_foreach(json_object_get(page, "uploads"), i, one)
        {
            const char *owner = json_text(one, "device"), *name = json_text(one, "name");
            snprintf(after, sizeof after, "%s%s%s", owner ? owner : "", owner ? "/" : "", name ? name : "");
            json_array_append(all, one);
        }
        more = !rc && json_is_true(json_object_get(page, "more"));
        json_decref(page);
    }
    if (!rc && c->json) {
        json_print(json_pack("{s:O}", "uploads", all));
    } else if (!rc) {
        struct table t;
        size_t i;
        json_t *one;
        table_begin(&t, 4, head);
        json_array_foreach(all, i, one)
        {
            char size[16];
            const char *owner = json_text(one, "device");
            table_row(&t, (const char *const[]){ owner ? owner : device, json_text(one, "name"),
                                                 bytes_text(json_number(one, "length", 0), size),
                                                 moment_text(one, "modified", (char[24]){ 0 }) });
        }
        table_end(&t, c, stdout);
    }
    json_decref(all);
    return rc;
}

/* The name without its folders. */
static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* *at: the bytes that are there. */
static int fetch(struct cli *c, const char *path, FILE *to, uint64_t *at)
{
    for (*at = 0;;) {
        char range[80];
        struct hub_answer answer;
        snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)*at,
                 (unsigned long long)(*at + PIECE - 1));
        struct hub_request r = { .method = "GET", .path = path, .header = range };
        int rc = hub_ask(c, &r, &answer);
        if (rc)
            rc = hub_unreachable(c, &answer);
        else if (answer.status == 416) { /* it ended with the piece before, or it is empty */
            hub_answer_free(&answer);
            return CLI_OK;
        } else if (answer.status != 200 && answer.status != 206)
            rc = hub_complain(&answer, "fetching the file");
        else if (answer.body_len && fwrite(answer.body, 1, answer.body_len, to) != answer.body_len)
            rc = cli_fail(CLI_USAGE, NULL, "cannot write: %s", strerror(errno));
        bool last = answer.status == 200 || answer.body_len < PIECE;
        *at += answer.body_len;
        hub_answer_free(&answer);
        if (rc || last)
            return rc;
    }
}

static int upload_get(struct cli *c, const struct args *a)
{
    const char *out = args_get(a, "output");
    struct part to;
    uint64_t bytes;
    if (!out)
        out = base_name(a->pos[1]);
    int rc = hub_open(c);
    if (!rc)
        rc = part_open(&to, out, 0666);
    if (rc)
        return rc;
    char *path = upload_path(a->pos[0], a->pos[1]);
    rc = fetch(c, path, to.f, &bytes);
    rc = part_close(&to, rc);
    if (!rc && c->json && strcmp(out, "-") != 0)
        json_print(json_pack("{s:s,s:s,s:s,s:I}", "device", a->pos[0], "name", a->pos[1], "file", out,
                             "length", (json_int_t)bytes));
    else if (!rc && strcmp(out, "-") != 0)
        cli_say(c, "%s in %s\n", bytes_text(bytes, (char[16]){ 0 }), out);
    free(path);
    return rc;
}

static int upload_delete(struct cli *c, const struct args *a)
{
    char *path = upload_path(a->pos[0], a->pos[1]);
    int rc = hub_json(c, "DELETE", path, NULL, "deleting the file", NULL);
    free(path);
    if (!rc && c->json)
        puts("{\"deleted\":1}");
    else if (!rc)
        cli_say(c, "%s of %s deleted\n", a->pos[1], a->pos[0]);
    return rc;
}

static const struct opt get_opts[] = { { "output", 'o', "FILE", "where to; - is standard output" }, { 0 } };

const struct command upload_commands[] = {
    { "upload list", "[DEVICE]", "Lists the files that devices uploaded", NULL, NULL, 0, 1, upload_list },
    { "upload get", "DEVICE NAME", "Fetches one of them",
      "Without -o into this folder, by the last part of NAME.", get_opts, 2, 2, upload_get },
    { "upload delete", "DEVICE NAME", "Deletes one of them", NULL, NULL, 2, 2, upload_delete },
    { 0 }
};
