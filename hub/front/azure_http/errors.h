/* hub/front/azure_http/errors.h - every error of the Azure-compatible interface: name, number, status. The
 * number is the status times 1000 and one more digit group; the name stands in the header iothub-errorcode
 * and in the body, and clients compare the two. To add one: a line here.
 * Source: the vendor's page "Troubleshoot Azure IoT Hub error codes"; docs/azure-http.md, "Errors". */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_ERRORS_H
#define ROOST_HUB_FRONT_AZURE_HTTP_ERRORS_H

#include "base/span.h"

#define AZURE_ERRORS(X)                                                                                      \
    X(GenericBadRequest, 400000)                                                                             \
    X(InvalidProtocolVersion, 400001)                                                                        \
    X(DeviceInvalidResultCount, 400002)                                                                      \
    X(InvalidOperation, 400003)                                                                              \
    X(ArgumentInvalid, 400004)                                                                               \
    X(ArgumentNull, 400005)                                                                                  \
    X(IotHubFormatError, 400006)                                                                             \
    X(DeviceStorageEntitySerializationError, 400007)                                                         \
    X(BlobContainerValidationError, 400008)                                                                  \
    X(ImportWarningExistsError, 400009)                                                                      \
    X(InvalidSchemaVersion, 400010)                                                                          \
    X(DeviceDefinedMultipleTimes, 400011)                                                                    \
    X(DeserializationError, 400012)                                                                          \
    X(BulkRegistryOperationFailure, 400013)                                                                  \
    X(DefaultStorageEndpointNotConfigured, 400014)                                                           \
    X(InvalidFileUploadCorrelationId, 400015)                                                                \
    X(ExpiredFileUploadCorrelationId, 400016)                                                                \
    X(InvalidStorageEndpoint, 400017)                                                                        \
    X(InvalidMessagingEndpoint, 400018)                                                                      \
    X(InvalidFileUploadCompletionStatus, 400019)                                                             \
    X(InvalidStorageEndpointOrBlob, 400020)                                                                  \
    X(RequestCanceled, 400021)                                                                               \
    X(InvalidStorageEndpointProperty, 400022)                                                                \
    X(EtagDoesNotMatch, 400023)                                                                              \
    X(RequestTimedOut, 400024)                                                                               \
    X(UnsupportedOperationOnReplica, 400025)                                                                 \
    X(NullMessage, 400026)                                                                                   \
    X(ConnectionForcefullyClosedOnNewConnection, 400027)                                                     \
    X(InvalidDeviceScope, 400028)                                                                            \
    X(InvalidEndpointAuthenticationType, 400031)                                                             \
    X(ManagedIdentityNotEnabled, 400032)                                                                     \
    X(InvalidPolicyKey, 400035)                                                                              \
    X(BulkRegenerateDeviceKeyOperationFailure, 400036)                                                       \
    X(InvalidRouteTestInput, 400100)                                                                         \
    X(InvalidSourceOnRoute, 400101)                                                                          \
    X(RoutingNotEnabled, 400102)                                                                             \
    X(InvalidContentEncodingOrType, 400103)                                                                  \
    X(CannotRegisterModuleToModule, 400301)                                                                  \
    X(TenantHubRoutingNotEnabled, 400302)                                                                    \
    X(InvalidConfigurationTargetCondition, 400401)                                                           \
    X(InvalidConfigurationContent, 400402)                                                                   \
    X(CannotModifyImmutableConfigurationContent, 400403)                                                     \
    X(InvalidConfigurationCustomMetricsQuery, 400404)                                                        \
    X(InvalidDigitalTwinJsonPatch, 400505)                                                                   \
    X(InvalidDigitalTwinPayload, 400506)                                                                     \
    X(InvalidDigitalTwinPatch, 400507)                                                                       \
    X(InvalidDigitalTwinPatchPath, 400508)                                                                   \
    X(GenericUnauthorized, 401000)                                                                           \
    X(IotHubNotFound, 401001)                                                                                \
    X(IotHubUnauthorizedAccess, 401002)                                                                      \
    X(IotHubUnauthorized, 401003)                                                                            \
    X(ElasticPoolNotFound, 401004)                                                                           \
    X(SystemModuleModifyUnauthorizedAccess, 401100)                                                          \
    X(GenericForbidden, 403000)                                                                              \
    X(IotHubSuspended, 403001)                                                                               \
    X(IotHubQuotaExceeded, 403002)                                                                           \
    X(JobQuotaExceeded, 403003)                                                                              \
    X(DeviceMaximumQueueDepthExceeded, 403004)                                                               \
    X(IotHubMaxCbsTokenExceeded, 403005)                                                                     \
    X(DeviceMaximumActiveFileUploadLimitExceeded, 403006)                                                    \
    X(DeviceMaximumQueueSizeExceeded, 403007)                                                                \
    X(RoutingEndpointResponseForbidden, 403008)                                                              \
    X(InvalidMessageExpiryTime, 403009)                                                                      \
    X(OperationNotAvailableInCurrentTier, 403010)                                                            \
    X(KeyEncryptionKeyRevoked, 403011)                                                                       \
    X(DeviceDisabled, 403012)                                                                                \
    X(DeviceMaximumInflightMethodExceeded, 403800)                                                           \
    X(GenericNotFound, 404000)                                                                               \
    X(DeviceNotFound, 404001)                                                                                \
    X(JobNotFound, 404002)                                                                                   \
    X(QuotaMetricNotFound, 404004)                                                                           \
    X(SystemPropertyNotFound, 404005)                                                                        \
    X(AmqpAddressNotFound, 404006)                                                                           \
    X(RoutingEndpointResponseNotFound, 404007)                                                               \
    X(CertificateNotFound, 404008)                                                                           \
    X(ElasticPoolTenantHubNotFound, 404009)                                                                  \
    X(ModuleNotFound, 404010)                                                                                \
    X(AzureTableStoreNotFound, 404011)                                                                       \
    X(IotHubFailingOver, 404012)                                                                             \
    X(FeatureNotSupported, 404013)                                                                           \
    X(DigitalTwinInterfaceNotFound, 404014)                                                                  \
    X(QueryStoreClusterNotFound, 404101)                                                                     \
    X(DeviceNotOnline, 404103)                                                                               \
    X(DeviceConnectionClosedRemotely, 404104)                                                                \
    X(ConfigurationNotFound, 404301)                                                                         \
    X(GroupNotFound, 404302)                                                                                 \
    X(GenericMethodNotAllowed, 405000)                                                                       \
    X(OperationNotAllowedInCurrentState, 405102)                                                             \
    X(ImportDevicesNotSupported, 405103)                                                                     \
    X(BulkAddDevicesNotSupported, 405104)                                                                    \
    X(GenericConflict, 409000)                                                                               \
    X(DeviceAlreadyExists, 409001)                                                                           \
    X(LinkCreationConflict, 409002)                                                                          \
    X(CallbackSubscriptionConflict, 409003)                                                                  \
    X(ModelAlreadyExists, 409101)                                                                            \
    X(DeviceLocked, 409102)                                                                                  \
    X(DeviceJobAlreadyExists, 409103)                                                                        \
    X(JobAlreadyExists, 409104)                                                                              \
    X(ModuleAlreadyExistsOnDevice, 409301)                                                                   \
    X(ConfigurationAlreadyExists, 409401)                                                                    \
    X(ApplyConfigurationAlreadyInProgressOnDevice, 409402)                                                   \
    X(GenericPreconditionFailed, 412000)                                                                     \
    X(PreconditionFailed, 412001)                                                                            \
    X(DeviceMessageLockLost, 412002)                                                                         \
    X(JobRunPreconditionFailed, 412003)                                                                      \
    X(InflightMessagesInLink, 412004)                                                                        \
    X(GenericRequestEntityTooLarge, 413000)                                                                  \
    X(MessageTooLarge, 413001)                                                                               \
    X(TooManyDevices, 413002)                                                                                \
    X(TooManyModulesOnDevice, 413003)                                                                        \
    X(ConfigurationCountLimitExceeded, 413101)                                                               \
    X(GenericUnsupportedMediaType, 415000)                                                                   \
    X(IncompatibleDataType, 415101)                                                                          \
    X(GenericTooManyRequests, 429000)                                                                        \
    X(ThrottlingException, 429001)                                                                           \
    X(ThrottleBacklogLimitExceeded, 429002)                                                                  \
    X(ThrottlingBacklogTimeout, 429003)                                                                      \
    X(ThrottlingMaxActiveJobCountExceeded, 429004)                                                           \
    X(DeviceThrottlingLimitExceeded, 429005)                                                                 \
    X(ClientClosedRequest, 499000)                                                                           \
    X(GenericServerError, 500000)                                                                            \
    X(ServerError, 500001)                                                                                   \
    X(GenericTimeout, 500008)                                                                                \
    X(GenericBadGateway, 502000)                                                                             \
    X(GenericServiceUnavailable, 503000)                                                                     \
    X(ServiceUnavailable, 503001)                                                                            \
    X(IotHubActivationFailed, 503004)                                                                        \
    X(ServerBusy, 503005)                                                                                    \
    X(IotHubRestoring, 503006)                                                                               \
    X(ConnectionUnavailable, 503101)                                                                         \
    X(DeviceUnavailable, 503102)                                                                             \
    X(ConfigurationNotAvailable, 503201)                                                                     \
    X(GroupNotAvailable, 503202)                                                                             \
    X(GenericGatewayTimeout, 504000)                                                                         \
    X(GatewayTimeout, 504101)

enum azure_error { /* AZ_DeviceNotFound = 404001 */
#define X(name, number) AZ_##name = number,
                   AZURE_ERRORS(X)
#undef X
};

static inline unsigned azure_error_status(enum azure_error e)
{
    return (unsigned)e / 1000;
}
const char *azure_error_name(enum azure_error e); /* "DeviceNotFound" */
/* By name; false: there is none of that name. */
bool azure_error_find(struct span name, enum azure_error *out);
/* For an answer that names no error of this list: the general one of a status (400 and above; one that is not
 * in the list is taken for the 500 or 400 it belongs to). */
enum azure_error azure_error_of_status(unsigned status);

#endif
