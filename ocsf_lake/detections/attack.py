"""Names of MITRE ATT&CK's tactics and techniques, as far as rules for these logs name them.

https://attack.mitre.org, version 17. pySigma would fetch its list from the network. A technique that is not here keeps
its id, and has no name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TACTICS = {
    "reconnaissance": ("TA0043", "Reconnaissance"),
    "resource-development": ("TA0042", "Resource Development"),
    "initial-access": ("TA0001", "Initial Access"),
    "execution": ("TA0002", "Execution"),
    "persistence": ("TA0003", "Persistence"),
    "privilege-escalation": ("TA0004", "Privilege Escalation"),
    "defense-evasion": ("TA0005", "Defense Evasion"),
    "credential-access": ("TA0006", "Credential Access"),
    "discovery": ("TA0007", "Discovery"),
    "lateral-movement": ("TA0008", "Lateral Movement"),
    "collection": ("TA0009", "Collection"),
    "command-and-control": ("TA0011", "Command and Control"),
    "exfiltration": ("TA0010", "Exfiltration"),
    "impact": ("TA0040", "Impact"),
}

TECHNIQUES = {
    "T1016": "System Network Configuration Discovery",
    "T1020": "Automated Exfiltration",
    "T1021": "Remote Services",
    "T1021.007": "Cloud Services",
    "T1030": "Data Transfer Size Limits",
    "T1033": "System Owner/User Discovery",
    "T1040": "Network Sniffing",
    "T1041": "Exfiltration Over C2 Channel",
    "T1046": "Network Service Discovery",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1048.003": "Exfiltration Over Unencrypted Non-C2 Protocol",
    "T1053": "Scheduled Task/Job",
    "T1059": "Command and Scripting Interpreter",
    "T1059.001": "PowerShell",
    "T1059.009": "Cloud API",
    "T1068": "Exploitation for Privilege Escalation",
    "T1069": "Permission Groups Discovery",
    "T1069.003": "Cloud Groups",
    "T1071": "Application Layer Protocol",
    "T1071.001": "Web Protocols",
    "T1071.004": "DNS",
    "T1074": "Data Staged",
    "T1078": "Valid Accounts",
    "T1078.001": "Default Accounts",
    "T1078.004": "Cloud Accounts",
    "T1082": "System Information Discovery",
    "T1087": "Account Discovery",
    "T1087.004": "Cloud Account",
    "T1090": "Proxy",
    "T1095": "Non-Application Layer Protocol",
    "T1098": "Account Manipulation",
    "T1098.001": "Additional Cloud Credentials",
    "T1098.003": "Additional Cloud Roles",
    "T1102": "Web Service",
    "T1102.002": "Bidirectional Communication",
    "T1105": "Ingress Tool Transfer",
    "T1110": "Brute Force",
    "T1110.003": "Password Spraying",
    "T1119": "Automated Collection",
    "T1133": "External Remote Services",
    "T1136": "Create Account",
    "T1136.003": "Cloud Account",
    "T1190": "Exploit Public-Facing Application",
    "T1199": "Trusted Relationship",
    "T1204": "User Execution",
    "T1213": "Data from Information Repositories",
    "T1213.003": "Code Repositories",
    "T1485": "Data Destruction",
    "T1486": "Data Encrypted for Impact",
    "T1489": "Service Stop",
    "T1490": "Inhibit System Recovery",
    "T1491": "Defacement",
    "T1496": "Resource Hijacking",
    "T1498": "Network Denial of Service",
    "T1499": "Endpoint Denial of Service",
    "T1525": "Implant Internal Image",
    "T1526": "Cloud Service Discovery",
    "T1528": "Steal Application Access Token",
    "T1529": "System Shutdown/Reboot",
    "T1530": "Data from Cloud Storage",
    "T1531": "Account Access Removal",
    "T1535": "Unused/Unsupported Cloud Regions",
    "T1537": "Transfer Data to Cloud Account",
    "T1538": "Cloud Service Dashboard",
    "T1548": "Abuse Elevation Control Mechanism",
    "T1548.005": "Temporary Elevated Cloud Access",
    "T1550": "Use Alternate Authentication Material",
    "T1550.001": "Application Access Token",
    "T1552": "Unsecured Credentials",
    "T1552.005": "Cloud Instance Metadata API",
    "T1555": "Credentials from Password Stores",
    "T1555.006": "Cloud Secrets Management Stores",
    "T1556": "Modify Authentication Process",
    "T1556.006": "Multi-Factor Authentication",
    "T1562": "Impair Defenses",
    "T1562.001": "Disable or Modify Tools",
    "T1562.007": "Disable or Modify Cloud Firewall",
    "T1562.008": "Disable or Modify Cloud Logs",
    "T1566": "Phishing",
    "T1567": "Exfiltration Over Web Service",
    "T1568": "Dynamic Resolution",
    "T1568.002": "Domain Generation Algorithms",
    "T1571": "Non-Standard Port",
    "T1572": "Protocol Tunneling",
    "T1578": "Modify Cloud Compute Infrastructure",
    "T1578.001": "Create Snapshot",
    "T1578.002": "Create Cloud Instance",
    "T1578.003": "Delete Cloud Instance",
    "T1580": "Cloud Infrastructure Discovery",
    "T1595": "Active Scanning",
    "T1606": "Forge Web Credentials",
    "T1606.002": "SAML Tokens",
    "T1609": "Container Administration Command",
    "T1610": "Deploy Container",
    "T1613": "Container and Resource Discovery",
    "T1619": "Cloud Storage Object Discovery",
    "T1621": "Multi-Factor Authentication Request Generation",
    "T1648": "Serverless Execution",
    "T1651": "Cloud Administration Command",
    "T1657": "Financial Theft",
}

_TECHNIQUE = re.compile(r"attack\.(t\d{4})(\.\d{3})?")


def attacks(tags: Iterable[str]) -> list[dict[str, str]]:
    """What a rule's tags name, as members of a finding's `attacks`: each tactic, each technique."""
    entries = []
    for tag in (tag.lower() for tag in tags):
        if tag.removeprefix("attack.").replace("_", "-") in TACTICS:
            uid, name = TACTICS[tag.removeprefix("attack.").replace("_", "-")]
            entries.append({"tactic": name, "tactic_uid": uid})
        elif match := _TECHNIQUE.fullmatch(tag):
            technique = match[1].upper()
            sub = f"{technique}{match[2]}" if match[2] else None
            entry = {
                "technique_uid": technique, "technique": TECHNIQUES.get(technique),
                "sub_technique_uid": sub, "sub_technique": TECHNIQUES.get(sub) if sub else None,
            }  # fmt: skip
            entries.append({name: value for name, value in entry.items() if value})
    return entries
