/* tests/conformance/peers/c_device.c - a device or module on the Azure IoT SDK for C: c_device CONNECTION
 * tcp|ws CA [CERTIFICATE KEY]. Answers every method with 201 and its payload, reports and sends a message
 * every two seconds, says what happens in lines of JSON, until it is killed. Built and used by
 * sources.test.mjs. */
#include <azure_c_shared_utility/shared_util_options.h>
#include <azure_c_shared_utility/threadapi.h>
#include <iothub.h>
#include <iothub_client_options.h>
#include <iothub_device_client_ll.h>
#include <iothub_message.h>
#include <iothub_module_client_ll.h>
#include <iothubtransportmqtt.h>
#include <iothubtransportmqtt_websockets.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_status(IOTHUB_CLIENT_CONNECTION_STATUS s, IOTHUB_CLIENT_CONNECTION_STATUS_REASON why,
                      void *ctx)
{
    (void)why, (void)ctx;
    printf("{\"connected\":%s}\n", s == IOTHUB_CLIENT_CONNECTION_AUTHENTICATED ? "true" : "false");
}
static void on_sent(IOTHUB_CLIENT_CONFIRMATION_RESULT r, void *ctx)
{
    (void)ctx;
    printf("{\"sent\":%s}\n", r == IOTHUB_CLIENT_CONFIRMATION_OK ? "true" : "false");
}
static void on_reported(int status, void *ctx)
{
    (void)ctx;
    printf("{\"reported\":%d}\n", status);
}
static void on_twin(DEVICE_TWIN_UPDATE_STATE what, const unsigned char *p, size_t n, void *ctx)
{
    (void)ctx;
    printf("{\"%s\":%.*s}\n", what == DEVICE_TWIN_UPDATE_COMPLETE ? "twin" : "patch", (int)n,
           (const char *)p);
}
static int on_method(const char *name, const unsigned char *p, size_t n, unsigned char **answer,
                     size_t *answer_n, void *ctx)
{
    (void)ctx;
    printf("{\"method\":\"%s\",\"payload\":%.*s}\n", name, (int)n, (const char *)p);
    *answer = malloc(n + 16);
    *answer_n = (size_t)sprintf((char *)*answer, "{\"was\":%.*s}", (int)n, (const char *)p);
    return 201;
}
static IOTHUBMESSAGE_DISPOSITION_RESULT on_message(IOTHUB_MESSAGE_HANDLE m, void *ctx)
{
    const unsigned char *body;
    size_t n;
    const char *id = IoTHubMessage_GetMessageId(m), *value = IoTHubMessage_GetProperty(m, "a b");
    (void)ctx;
    IoTHubMessage_GetByteArray(m, &body, &n);
    printf("{\"c2d\":\"%.*s\",\"id\":\"%s\",\"value\":\"%s\"}\n", (int)n, (const char *)body, id ? id : "",
           value ? value : "");
    return IOTHUBMESSAGE_ACCEPTED;
}

static char *text_of(const char *name)
{
    char *text = calloc(1, 1 << 16);
    FILE *f = fopen(name, "r");
    if (!text || !f || !fread(text, 1, (1 << 16) - 1, f))
        exit(2);
    fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    bool ws = argc > 3 && !strcmp(argv[2], "ws"), module = strstr(argv[1], "ModuleId=") != NULL,
         encode = true;
    IOTHUB_CLIENT_TRANSPORT_PROVIDER way = ws ? MQTT_WebSocket_Protocol : MQTT_Protocol;
    IOTHUB_MODULE_CLIENT_LL_HANDLE mod = NULL;
    IOTHUB_DEVICE_CLIENT_LL_HANDLE dev = NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    IoTHub_Init();
    if (module)
        mod = IoTHubModuleClient_LL_CreateFromConnectionString(argv[1], way);
    else
        dev = IoTHubDeviceClient_LL_CreateFromConnectionString(argv[1], way);
#define EITHER(what, ...)                                                                                    \
    (module ? (void)IoTHubModuleClient_LL_##what(mod, __VA_ARGS__)                                           \
            : (void)IoTHubDeviceClient_LL_##what(dev, __VA_ARGS__))
    EITHER(SetOption, OPTION_TRUSTED_CERT, text_of(argv[3]));
    EITHER(SetOption, OPTION_AUTO_URL_ENCODE_DECODE, &encode);
    if (argc > 5) {
        EITHER(SetOption, OPTION_X509_CERT, text_of(argv[4]));
        EITHER(SetOption, OPTION_X509_PRIVATE_KEY, text_of(argv[5]));
    }
    EITHER(SetConnectionStatusCallback, on_status, NULL);
    EITHER(SetMessageCallback, on_message, NULL);
    if (module) {
        IoTHubModuleClient_LL_SetModuleTwinCallback(mod, on_twin, NULL);
        IoTHubModuleClient_LL_SetModuleMethodCallback(mod, on_method, NULL);
    } else {
        IoTHubDeviceClient_LL_SetDeviceTwinCallback(dev, on_twin, NULL);
        IoTHubDeviceClient_LL_SetDeviceMethodCallback(dev, on_method, NULL);
    }
    for (unsigned i = 0;; i++) {
        if (i % 40 == 0) {
            char body[32];
            sprintf(body, "{\"n\":%u}", i);
            IOTHUB_MESSAGE_HANDLE m = IoTHubMessage_CreateFromString(body);
            IoTHubMessage_SetContentTypeSystemProperty(m, "application/json");
            IoTHubMessage_SetProperty(m, "k 1", "v/1&=");
            EITHER(SendEventAsync, m, on_sent, NULL);
            IoTHubMessage_Destroy(m);
            EITHER(SendReportedState, (const unsigned char *)body, strlen(body), on_reported, NULL);
        }
        if (module)
            IoTHubModuleClient_LL_DoWork(mod);
        else
            IoTHubDeviceClient_LL_DoWork(dev);
        ThreadAPI_Sleep(50);
    }
}
