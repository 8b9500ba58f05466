/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NATS C client (libnats), loaded when the first nats: channel of a process is opened: the library does not depend
 * on it, and who does not use it has neither its threads nor those of what it brings along.
 *
 * A forked child inherits the client's memory but not its three threads, and perhaps its locks. So a child that opens a
 * nats: channel gets a client of its own: a second copy of the same file, which the loader takes for another library.
 */
#ifndef NORIA_NATS_CLIENT_H
#define NORIA_NATS_CLIENT_H

#include <nats/nats.h>

#define NORIA_NATS_FUNCTIONS(F) \
    F(nats_Open) F(nats_GetLastError) F(natsStatus_GetText) \
    F(natsOptions_Create) F(natsOptions_Destroy) F(natsOptions_SetServers) F(natsOptions_SetTimeout) \
    F(natsOptions_SetName) F(natsOptions_SetUserInfo) F(natsOptions_SetToken) F(natsOptions_SetSendAsap) \
    F(natsOptions_SetUserCredentialsFromFiles) F(natsOptions_SetSecure) F(natsOptions_LoadCATrustedCertificates) \
    F(natsOptions_LoadCertificatesChain) F(natsOptions_SetMaxReconnect) F(natsOptions_SetReconnectWait) \
    F(natsOptions_SetReconnectJitter) F(natsOptions_SetErrorHandler) F(natsOptions_SetClosedCB) \
    F(natsOptions_SetEventLoop) F(natsOptions_SetAllowReconnect) \
    F(natsConnection_Connect) F(natsConnection_Destroy) F(natsConnection_GetMaxPayload) F(natsConnection_GetLastError) \
    F(natsConnection_ProcessReadEvent) F(natsConnection_ProcessWriteEvent) F(natsConnection_PublishMsg) \
    F(natsConnection_PublishRequest) F(natsConnection_Publish) F(natsConnection_SubscribeSync) \
    F(natsInbox_Create) F(natsInbox_Destroy) F(natsSubscription_NextMsg) F(natsSubscription_Destroy) \
    F(natsMsg_Create) F(natsMsg_Destroy) F(natsMsg_GetData) F(natsMsg_GetDataLength) F(natsMsg_GetReply) \
    F(natsMsg_GetSubject) F(natsMsg_GetMetaData) F(jsMsgMetaData_Destroy) F(natsMsgHeader_Set) F(natsMsgHeader_Get) \
    F(natsConnection_JetStream) F(jsCtx_Destroy) F(jsOptions_Init) F(jsStreamConfig_Init) F(jsConsumerConfig_Init) \
    F(js_AddStream) F(js_GetStreamInfo) F(jsStreamInfo_Destroy) F(js_DeleteStream) \
    F(js_AddConsumer) F(js_GetConsumerInfo) F(jsConsumerInfo_Destroy)

#define NORIA_NATS_MEMBER(name) __typeof__(&name) name;
struct noria_nats_client {
    NORIA_NATS_FUNCTIONS(NORIA_NATS_MEMBER)
};

/* This process' client. NULL, with a sentence in *rc's failure: -ENOTSUP it is not installed, -ENOMEM, -EIO. */
const struct noria_nats_client *noria_nats_client(int *rc);

/* What a status of the client, and the server's code behind it (0: none), come to. -errno with a sentence. */
int noria_nats_fail(const struct noria_nats_client *client, natsStatus status, jsErrCode code, const char *about);

#endif
