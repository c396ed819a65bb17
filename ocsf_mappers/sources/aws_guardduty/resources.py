"""What a finding is about: `resources`.

Known members of a resource's details become attributes, and the whole detail stands beside them in `data`. Resource
types are spelled as Security Hub does (ASFF); those that ASFF lacks are spelled alike.
"""

from ocsf_mappers import Fields, coalesce, col, element, first, outer, sql, text
from ocsf_mappers.sources.aws_guardduty.phrases import action, arn, labels, moment, resource, sequence

SEQUENCE_TYPES = {
    # resourceType of an attack sequence -> Security Hub's spelling
    "EC2_INSTANCE": "AwsEc2Instance",
    "EC2_NETWORK_INTERFACE": "AwsEc2NetworkInterface",
    "EC2_LAUNCH_TEMPLATE": "AwsEc2LaunchTemplate",
    "EC2_VPC": "AwsEc2Vpc",
    "EC2_IMAGE": "AwsEc2Image",
    "S3_BUCKET": "AwsS3Bucket",
    "S3_OBJECT": "AwsS3Object",
    "ACCESS_KEY": "AwsIamAccessKey",
    "IAM_INSTANCE_PROFILE": "AwsIamInstanceProfile",
    "EKS_CLUSTER": "AwsEksCluster",
    "KUBERNETES_WORKLOAD": "KubernetesWorkload",
    "CONTAINER": "Container",
    "ECS_CLUSTER": "AwsEcsCluster",
    "ECS_TASK": "AwsEcsTask",
    "AUTOSCALING_AUTO_SCALING_GROUP": "AwsAutoScalingAutoScalingGroup",
    "CLOUDFORMATION_STACK": "AwsCloudFormationStack",
    "BEDROCK_GUARDRAIL": "AwsBedrockGuardrail",
    "BEDROCK_CUSTOM_MODEL": "AwsBedrockCustomModel",
    "BEDROCK_CUSTOM_MODEL_DEPLOYMENT": "AwsBedrockCustomModelDeployment",
    "BEDROCK_IMPORTED_MODEL": "AwsBedrockImportedModel",
    "BEDROCK_PROVISIONED_MODEL": "AwsBedrockProvisionedModel",
    "BEDROCK_INFERENCE_PROFILE": "AwsBedrockInferenceProfile",
    "BEDROCK_APPLICATION_INFERENCE_PROFILE": "AwsBedrockApplicationInferenceProfile",
    "BEDROCK_PROMPT": "AwsBedrockPrompt",
    "BEDROCK_PROMPT_ROUTER": "AwsBedrockPromptRouter",
    "SAGEMAKER_ENDPOINT": "AwsSageMakerEndpoint",
}

OURS: Fields = {
    "cloud_partition":   outer.partition,
    "region":            outer.region,
    "owner.account.uid": outer.accountId,
    "data":              element,
    "role_id":           outer.service.resourceRole.replace(TARGET="Target", ACTOR="Actor"),
}  # fmt: skip
"""What every resource has: it is the finding's account's, and everything that GuardDuty says of it is in `data`."""

NETWORK = element.json("networkInterfaces").json("0")
AFFECTED = r"""CASE WHEN json_valid({0}) THEN CASE json_type({0}) WHEN 'OBJECT' THEN
    to_json(list_transform(map_entries(from_json({0}, '"MAP(VARCHAR, VARCHAR)"')), lambda i: {{
    'type': CASE WHEN i.key LIKE 'AWS::%::%' THEN 'Aws' || array_to_string(list_transform(string_split(i.key, '::')[2:],
        lambda w: CASE WHEN w = upper(w) THEN w[1] || lower(w[2:]) ELSE w END), '') ELSE i.key END,
    'uid': i.value }})) END END"""
affected = sql(AFFECTED, reads=[action.awsApiCallAction.json("affectedResources")], carries=False)
cluster, bucket = resource.ecsClusterDetails, resource.s3BucketDetails
workload = resource.kubernetesDetails.kubernetesWorkloadDetails

CONTAINER: Fields = OURS | {
    "type": "Container",
    "uid":  first(col.id, col.name, col.image, default="unknown"),
    "name": col.name,
}  # fmt: skip
"""A container of a task, a pod or an instance."""

RESOURCES = [
    resource.accessKeyDetails.each(OURS | {
        "type": "AwsIamAccessKey",
        # Security Hub's own spelling of the id
        "uid":  first(
            text("AWS::IAM::AccessKey:{}", col.accessKeyId), col.principalId, col.userName, default="unknown"
        ),
        "name": col.userName,
    }),
    bucket.each(OURS | {
        "type":         "AwsS3Bucket",
        "uid":          first(col.arn, text("arn:{}:s3:::{}", outer.partition, col.name), col.name, default="unknown"),
        "name":         col.name,
        "labels":       labels(col.tags),
        "created_time": moment(col.createdAt),
        "owner.uid":    col.owner.id,
    }),
    bucket.every("[].s3ObjectDetails[]").each(OURS | {
        "type":    "AwsS3Object",
        "uid":     first(col.objectArn, col.key, default="unknown"),
        "name":    col.key,
        "version": col.versionId,
    }),
    resource.instanceDetails.each(OURS | {
        "type":         "AwsEc2Instance",
        "uid":          first(arn("ec2", "instance/", col.instanceId), col.instanceId, default="unknown"),
        "name":         col.instanceId,
        "labels":       labels(col.tags),
        "zone":         col.availabilityZone,
        "created_time": moment(col.launchTime),
        "ip":           NETWORK.json("privateIpAddress"),
        "hostname":     NETWORK.json("privateDnsName"),
    }),
    resource.eksClusterDetails.each(OURS | {
        "type":         "AwsEksCluster",
        "uid":          first(col.arn, col.name, default="unknown"),
        "name":         col.name,
        "labels":       labels(col.tags),
        "created_time": moment(col.createdAt),
    }),
    workload.each(OURS | {
        "type":      "KubernetesWorkload",
        "uid":       first(col.uid, col.name, default="unknown"),
        "name":      col.name,
        "namespace": col.namespace,
    }),
    workload.every("containers[]").each(CONTAINER),
    cluster.each(OURS | {
        "type":   "AwsEcsCluster",
        "uid":    first(col.arn, col.name, default="unknown"),
        "name":   col.name,
        "labels": labels(col.tags),
    }),
    cluster.json("taskDetails").each(OURS | {
        "type":         "AwsEcsTask",
        "uid":          first(col.arn, col.definitionArn, default="unknown"),
        "labels":       labels(col.tags),
        "version":      col.version,
        "created_time": moment(coalesce(col.createdAt, col.taskCreatedAt)),
    }),
    cluster.every("taskDetails.containers[]").each(CONTAINER),
    resource.containerDetails.each(CONTAINER),
    resource.lambdaDetails.each(OURS | {
        "type": "AwsLambdaFunction",
        "uid":  first(
            col.functionArn, arn("lambda", "function:", col.functionName), col.functionName, default="unknown"
        ),
        "name":          col.functionName,
        "labels":        labels(col.tags),
        "version":       col.functionVersion,
        "modified_time": moment(col.lastModifiedAt),
    }),
    resource.rdsDbInstanceDetails.each(OURS | {
        "type": "AwsRdsDbInstance",
        "uid":     first(
            col.dbInstanceArn, arn("rds", "db:", col.dbInstanceIdentifier), col.dbiResourceId, default="unknown"
        ),
        "name":    col.dbInstanceIdentifier,
        "labels":  labels(col.tags),
        "version": col.engineVersion,
    }),
    resource.rdsLimitlessDbDetails.each(OURS | {
        "type":    "AwsRdsDbShardGroup",
        "uid":     first(
            col.dbShardGroupArn, col.dbShardGroupResourceId, col.dbShardGroupIdentifier, default="unknown"
        ),
        "name":    col.dbShardGroupIdentifier,
        "labels":  labels(col.tags),
        "version": col.engineVersion,
    }),
    # volumes that were skipped have no part in the finding: `unmapped` names them
    resource.ebsVolumeDetails.scannedVolumeDetails.each(OURS | {
        "type": "AwsEc2Volume",
        "uid":  first(col.volumeArn, col.deviceName, default="unknown"),
        "name": col.deviceName,
    }),
    resource.ebsSnapshotDetails.each(OURS | {
        "type": "AwsEc2Snapshot",
        "uid":  first(col.snapshotArn, default="unknown"),
    }),
    resource.ec2ImageDetails.each(OURS | {
        "type": "AwsEc2Image",
        "uid":  first(col.imageArn, default="unknown"),
    }),
    resource.recoveryPointDetails.each(OURS | {
        "type": "AwsBackupRecoveryPoint",
        "uid":  first(col.recoveryPointArn, default="unknown"),
        "name": col.backupVaultName,
    }),
    resource.bedrockGuardrailDetails.each(OURS | {
        "type":    "AwsBedrockGuardrail",
        "uid":     first(col.guardrailArn, default="unknown"),
        "version": col.guardrailVersion,
    }),
    resource.modelDetails.each(OURS | {
        "type": "AwsBedrockModel",
        "uid":  first(col.modelId, default="unknown"),
    }),
    sequence.resources.each(OURS | {
        "type":              col.resourceType.replace(SEQUENCE_TYPES),
        "uid":               first(col.uid, col.name, default="unknown"),
        "name":              col.name,
        "labels":            labels(col.tags),
        "cloud_partition":   coalesce(col.cloudPartition, outer.partition),
        "region":            coalesce(col.region, outer.region),
        "owner.account.uid": coalesce(col.accountId, outer.accountId),
    }),
    # what the call was about, beside the principal who made it
    affected.each({
        "type":              col.type,
        "uid":               first(col.uid, default="unknown"),
        "cloud_partition":   outer.partition,
        "owner.account.uid": outer.accountId,
        "role_id":           "Affected",
    }),
]  # fmt: skip
