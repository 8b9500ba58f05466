/* SPDX-License-Identifier: BSD-2-Clause */
#include "nats_address.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detail.h"

#define MOST_SECONDS (UINT64_C(366) * 86400)
enum { MOST_REPLICAS = 5, MOST_SUBJECT = 200 };

static const char form[] = "write nats://host:port/subject";

/* %XX into bytes, in place. */
static bool decode(char *text)
{
    char *to = text;

    for (const char *from = text; *from != '\0'; from++) {
        char digits[3] = "";
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        if (!isxdigit((unsigned char)from[1]) || !isxdigit((unsigned char)from[2]))
            return false;
        memcpy(digits, from + 1, 2);
        *to++ = (char)strtol(digits, NULL, 16);
        from += 2;
        if (to[-1] == '\0')
            return false;
    }
    *to = '\0';
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- options */

static int set_number(uint64_t *to, const char *name, const char *value, uint64_t most)
{
    char *end = NULL;

    errno = 0;
    *to = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end != '\0' || errno != 0 || *to == 0 || *to > most)
        return noria_fail(-EINVAL, "nats: %s=%s is no number from 1 to %llu", name, value, (unsigned long long)most);
    return 0;
}

/* What names of streams and consumers may be. */
static int set_name(const char **to, const char *name, const char *value)
{
    if (value[0] == '\0' || strpbrk(value, " \t\r\n.*>/\\") != NULL)
        return noria_fail(-EINVAL, "nats: %s=%s cannot be a name: no dots, blanks, slashes or wildcards", name, value);
    *to = value;
    return 0;
}

static int set_value(struct noria_nats_address *address, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **to;
    } files[] = {{"ca", &address->ca}, {"cert", &address->cert}, {"key", &address->key}, {"creds", &address->creds}};

    if (strcmp(name, "stream") == 0) {
        address->names_stream = true;
        return set_name(&address->stream, name, value);
    }
    if (strcmp(name, "consumer") == 0)
        return set_name(&address->consumer, name, value);
    if (strcmp(name, "replicas") == 0)
        return set_number(&address->replicas, name, value, MOST_REPLICAS);
    if (strcmp(name, "window") == 0)
        return set_number(&address->window_s, name, value, MOST_SECONDS);
    if (strcmp(name, "ack_wait") == 0)
        return set_number(&address->ack_wait_s, name, value, MOST_SECONDS);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strcmp(name, files[i].name) == 0) {
            *files[i].to = value;
            return value[0] != '\0' ? 0 : noria_fail(-EINVAL, "nats: %s= names no file", name);
        }
    return noria_fail(-EINVAL, "nats: '%s=%s' is no option", name, value);
}

static int set_flag(struct noria_nats_address *address, const char *name)
{
    if (strcmp(name, "tls") == 0)
        address->tls = true;
    else if (strcmp(name, "memory") == 0)
        address->memory = true;
    else if (strcmp(name, "strict") == 0)
        address->strict = true;
    else
        return noria_fail(-EINVAL, "nats: '%s' is no option", name);
    return 0;
}

static int parse_options(struct noria_nats_address *address, char *options)
{
    char *place = NULL;
    int rc = 0;

    for (char *option = strtok_r(options, "&", &place); option != NULL && rc == 0;
         option = strtok_r(NULL, "&", &place)) {
        char *value = strchr(option, '=');
        if (value == NULL) {
            rc = set_flag(address, option);
            continue;
        }
        *value++ = '\0';
        rc = decode(value) ? set_value(address, option, value)
                           : noria_fail(-EINVAL, "nats: %s=%s: a %% takes two hexadecimal digits", option, value);
    }
    if (rc == 0 && (address->cert == NULL) != (address->key == NULL))
        rc = noria_fail(-EINVAL, "nats: cert=FILE and key=FILE go together");
    address->tls = address->tls || address->ca != NULL || address->cert != NULL;
    return rc;
}

/* ----------------------------------------------------------------------------------------------- servers and subject */

static int parse_user(struct noria_nats_address *address, char *user)
{
    char *password = strchr(user, ':');

    if (password != NULL)
        *password++ = '\0';
    if (!decode(user) || (password != NULL && !decode(password)) || user[0] == '\0')
        return noria_fail(-EINVAL, "nats: in user and password a %% takes two hexadecimal digits, and a user has a name");
    address->user = user;
    address->password = password;
    return 0;
}

static bool is_server(const char *server)
{
    const char *port = strrchr(server, ':');

    if (server[0] == '[') /* IPv6 */
        port = strchr(server, ']') != NULL ? strchr(strchr(server, ']'), ':') : server;
    if (server[0] == '\0' || port == server || strpbrk(server, " \t\r\n/?#@") != NULL)
        return false;
    return port == NULL || (port[1] != '\0' && strspn(port + 1, "0123456789") == strlen(port + 1) && strlen(port) <= 6 &&
                            atoi(port + 1) <= 65535 && atoi(port + 1) > 0);
}

static int parse_servers(struct noria_nats_address *address, char *servers)
{
    char *place = NULL;

    for (char *server = strtok_r(servers, ",", &place); server != NULL; server = strtok_r(NULL, ",", &place)) {
        if (!is_server(server))
            return noria_fail(-EINVAL, "nats: '%s' is no host:port; %s", server, form);
        if (address->server_count == NORIA_NATS_SERVERS)
            return noria_fail(-EINVAL, "nats: more than %d servers", NORIA_NATS_SERVERS);
        address->servers[address->server_count++] = server;
    }
    return address->server_count > 0 ? 0 : noria_fail(-EINVAL, "nats: no server is named; %s", form);
}

static int check_subject(const char *subject)
{
    size_t length = strlen(subject);

    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)subject[i]) || subject[i] == '*' || subject[i] == '>')
            return noria_fail(-EINVAL, "nats: the subject '%s' has a blank, a wildcard or what cannot be printed", subject);
    if (length == 0 || length > MOST_SUBJECT || subject[0] == '.' || subject[length - 1] == '.' ||
        strstr(subject, "..") != NULL || subject[0] == '$')
        return noria_fail(-EINVAL,
                          "nats: '%s' is no subject: up to %d characters, words with dots between them, no $ in front", subject,
                          MOST_SUBJECT);
    return 0;
}

/* The stream of a subject whose address names none: different subjects have different ones. */
static void name_stream(const char *subject, char *name)
{
    name += sprintf(name, "noria-");
    for (; *subject != '\0'; subject++)
        if (isalnum((unsigned char)*subject))
            *name++ = *subject;
        else if (*subject == '.')
            *name++ = '-';
        else
            name += sprintf(name, "_%02x", (unsigned char)*subject);
    *name = '\0';
}

/* The pieces of `text`, which ends in room for a name that is made. */
static int parse(struct noria_nats_address *address, char *text, char *made)
{
    char *options = strchr(text, '?'), *servers, *subject, *at;
    int rc;

    if (options != NULL)
        *options++ = '\0';
    if (strncmp(text, "//", 2) != 0 || (subject = strchr(text + 2, '/')) == NULL)
        return noria_fail(-EINVAL, "nats: an address has a server and a subject: %s", form);
    *subject++ = '\0';
    servers = text + 2;
    at = strrchr(servers, '@');
    if (at != NULL) {
        *at = '\0';
        rc = parse_user(address, servers);
        if (rc != 0)
            return rc;
        servers = at + 1;
    }
    if (asprintf(&address->shown, "nats://%s/%s", servers, subject) < 0) {
        address->shown = NULL;
        return noria_fail(-ENOMEM, "out of memory for an address");
    }
    rc = check_subject(subject);
    if (rc == 0)
        rc = parse_servers(address, servers);
    if (rc != 0)
        return rc;
    address->subject = subject;
    name_stream(subject, made);
    address->stream = made;
    return options != NULL ? parse_options(address, options) : 0;
}

int noria_nats_address_parse(struct noria_nats_address *address, const char *rest)
{
    size_t length = strlen(rest);
    int rc;

    *address = (struct noria_nats_address){.consumer = "noria", .replicas = 1, .window_s = 120, .ack_wait_s = 30};
    address->text = malloc(length + 1 + sizeof("noria-") + 3 * length);
    if (address->text == NULL)
        return noria_fail(-ENOMEM, "out of memory for an address");
    memcpy(address->text, rest, length + 1);
    rc = parse(address, address->text, address->text + length + 1);
    if (rc != 0)
        noria_nats_address_free(address);
    return rc;
}

void noria_nats_address_free(struct noria_nats_address *address)
{
    free(address->text);
    free(address->shown);
    address->text = address->shown = NULL;
}
